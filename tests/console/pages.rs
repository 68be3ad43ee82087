//! Pages and forms, as a browser without script has them.

use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;

use crate::kit::admin::AdminServer;
use crate::kit::eventually;
use crate::visitor::{get, post};
use muster::admin::capacity::FOLLOWERS_MAX;
use muster::wire::event::Severity;
use muster::wire::settings::Declaration;

/// Every page of a server without devices.
const PAGES: [&str; 19] = [
    "/",
    "/devices",
    "/groups",
    "/applications",
    "/policies",
    "/policies/edit",
    "/tasks",
    "/tasks/new",
    "/events",
    "/access",
    "/audit",
    "/audit?verify=1",
    "/server",
    "/help",
    "/api",
    "/api?operation=get_devices_device",
    "/api?type=Policy",
    "/sign-in",
    "/welcome",
];

#[test]
fn every_page_answers_and_lets_no_other_script_run() {
    let server = AdminServer::start();
    for url in PAGES {
        let answer = get(&server, url);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{url}"
        );
        answer.shows("<a class=\"skip\" href=\"#main\">");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for inline in ["<style", "style=", "onclick", "<script>"] {
            assert!(!answer.body.contains(inline), "{url} has {inline}");
        }
        let more =
            ["x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "cache-control"];
        assert_eq!(
            more.map(|name| answer.header(name)),
            ["nosniff", "same-origin", "same-origin", "no-store"]
        );
        // The files that it names are there, and may be kept.
        for (at, _) in answer.body.match_indices("/assets/") {
            let file = get(&server, answer.body[at..].split('"').next().unwrap());
            assert_eq!(file.status, 200);
            assert!(file.header("cache-control").ends_with("immutable"), "{}", file.head);
        }
    }
}

#[test]
fn what_is_not_there_is_a_page_to_browsers_and_json_to_programs() {
    let server = AdminServer::start();
    for url in ["/nothing", "/devices/nobody", "/v1/devices/nobody"] {
        let answer = get(&server, url);
        assert_eq!(answer.status, 404, "{url}");
        answer.shows("role=\"alert\"");
        assert!(!answer.header("content-security-policy").is_empty(), "{url}");
    }
    let answer = crate::visitor::ask(&server, "GET /v1/devices/nobody", "", "");
    assert!(answer.body.starts_with("{\"error\""), "{}", answer.body);
    assert_eq!(get(&server, "/assets/console.css").status, 404);
}

#[test]
fn a_fault_of_a_filter_is_shown_at_its_place_and_what_was_typed_stays() {
    let server = AdminServer::start();
    let answer = get(&server, "/devices?where=os%3Adebian%20presence%3Aaway");
    assert_eq!(answer.status, 400);
    answer.shows("value=\"os:debian presence:away\"");
    answer.shows("os:debian presence:<mark>a</mark>way");
    answer.shows("musterctl device list --where &#39;os:debian presence:away&#39;");
}

#[test]
fn a_device_is_found_changed_and_removed() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    get(&server, "/").shows("href=\"/devices?where=presence%3Alost\"");
    get(&server, "/devices?where=kiosk&sort=-name")
        .shows(&format!("<a href=\"/devices/{device}\">kiosk-17</a>"));
    let url = format!("/devices/{device}");
    get(&server, &url).shows("musterctl device show kiosk-17");

    let refused = post(&server, &url, &[("action", "set"), ("name", "kiosk-18"), ("interval", "soon")]);
    assert_eq!(refused.status, 400);
    refused.shows("&#39;soon&#39; is not a duration");
    refused.shows("value=\"kiosk-18\"");

    let done =
        post(&server, &url, &[("action", "set"), ("name", "kiosk-18"), ("group", "/a"), ("interval", "5m")]);
    assert_eq!((done.status, done.header("location")), (303, &*format!("{url}?done=saved&number=1")));
    get(&server, done.header("location")).shows("<p class=\"notice good\" role=\"status\">Saved.</p>");
    let shown = server.json(&["device", "show", "kiosk-18"]);
    assert_eq!((&shown["group"], &shown["interval_seconds"]), (&"/a".into(), &300.into()));

    let kept = post(&server, &url, &[("action", "remove")]);
    kept.shows("tick the box first");
    let done = post(&server, &url, &[("action", "remove"), ("sure", "on")]);
    assert_eq!(done.header("location"), "/devices?done=removed&number=0");
    server.refused(1, &["device", "show", "kiosk-18"]);

    // The audit has the requests of the API, as from everywhere else.
    let audit = server.json(&["audit", "list"]);
    let actions: Vec<_> =
        audit.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["PATCH /v1/devices/{device}", "DELETE /v1/devices/{device}"]);
}

#[test]
fn a_selection_is_changed_once_its_number_was_said() {
    let server = AdminServer::start();
    server.enrol("spare-1");
    server.enrol_waiting(&["kiosk-1", "kiosk-2"].map(str::to_owned));
    let filter = ("where", "name:kiosk-*");
    for (change, value, done) in [
        ("approve", "/berlin", "approved-devices&number=2"),
        ("group", "/berlin", "changed&number=2"),
        ("tag", "spare", "tagged&number=2"),
        ("untag", "spare", "untagged&number=2"),
        ("keep", "on", "changed&number=2"),
        ("interval", "5m", "changed&number=2"),
        ("sync", "", "called&number=2"),
        ("remove", "", "removed-devices&number=2"),
    ] {
        let fields = [filter, ("change", change), ("value", value)];
        let asked = post(&server, "/selection", &fields);
        assert_eq!(asked.status, 200, "{change}: {}", asked.body);
        asked.shows("<h1>Change 2 devices?</h1>");
        asked.shows("--where &#39;name:kiosk-*&#39;");
        let other = post(&server, "/selection", &[&fields[..], &[("sure", "1")]].concat());
        other.shows("The number has changed meanwhile.");
        let sent = post(&server, "/selection", &[&fields[..], &[("sure", "2")]].concat());
        assert_eq!(
            sent.header("location"),
            format!("/devices?where=name%3Akiosk-%2A&done={done}"),
            "{change}"
        );
    }
    let wrong = post(&server, "/selection", &[filter, ("change", "interval"), ("value", "1s")]);
    assert_eq!(wrong.status, 400);
    wrong.shows("the interval is 1 s");
    post(&server, "/selection", &[("where", "os:debian"), ("change", "view"), ("view", "mine")]);
    assert_eq!(server.json(&["view", "list"])[0]["where"], "os:debian");
    get(&server, "/devices").shows("view%3Amine");
    let left: Vec<_> = server.json(&["device", "list"]).as_array().unwrap().clone();
    assert_eq!((left.len(), &left[0]["name"]), (1, &"spare-1".into()));
}

#[test]
fn one_that_waits_is_named_first_and_let_in() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    // As it is when the store is asked; tests/agent has one that comes with such a token.
    let refused = post(&server, &format!("/devices/{device}"), &[("action", "approve")]);
    assert_eq!(refused.status, 409);
    let made = post(&server, &format!("/devices/{device}"), &[("action", "re-enrol")]);
    made.shows("A token for kiosk-17");
    assert_eq!(made.status, 200);
    assert_eq!(server.json(&["token", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn groups_are_made_moved_and_removed_and_it_is_said_whom_that_concerns() {
    let server = AdminServer::start();
    let made = post(&server, "/groups", &[("action", "make"), ("path", "/shops/berlin"), ("interval", "5m")]);
    assert_eq!(made.header("location"), "/groups?done=made&number=0");
    get(&server, "/groups").shows("/devices?where=group%3A%2Fshops%2Fberlin");
    let moving = [("action", "move"), ("path", "/shops/berlin"), ("to", "/berlin")];
    post(&server, "/groups", &moving).shows("0 devices would have other settings.");
    assert_eq!(server.json(&["group", "list"]).as_array().unwrap().len(), 3);
    post(&server, "/groups", &[&moving[..], &[("sure", "on")]].concat());
    let child = [("action", "make"), ("path", "/berlin/a")];
    post(&server, "/groups", &child);
    get(&server, "/groups").shows("5m (from /berlin)");
    // Whatever page the group above is on.
    let list = server.json(&["group", "list"]);
    assert_eq!(list[2]["in_force"]["interval_from"], "/berlin", "{list}");
    let second = crate::visitor::ask(&server, "GET /v1/groups?limit=2", "", "").body;
    let cursor = second.split("\"next_cursor\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let second = get(&server, &format!("/groups?cursor={cursor}"));
    second.shows("5m (from /berlin)");
    assert!(!second.body.contains(">/berlin</a>"), "{}", second.body);
    let refused = post(&server, "/groups", &[("action", "remove"), ("path", "/berlin")]);
    assert_eq!(refused.status, 409);
    refused.shows("value=\"/berlin\"");
    let remove = [("action", "remove"), ("path", "/berlin"), ("recursive", "on"), ("sure", "on")];
    assert_eq!(post(&server, "/groups", &remove).status, 303);
    assert_eq!(server.json(&["group", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn those_who_have_not_signed_in_are_offered_no_places() {
    let server = AdminServer::start();
    for (url, offers) in [("/sign-in", false), ("/welcome", false), ("/help", true)] {
        let page = get(&server, url);
        page.shows("</footer>");
        assert_eq!((page.body.contains("<nav"), page.body.contains("Sign out")), (offers, offers), "{url}");
    }
}

#[test]
fn a_policy_is_previewed_before_it_is_saved() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let declaration = Declaration {
        application: "kiosk".into(),
        takes_settings: true,
        settings_schema: String::new(),
        kinds: Vec::new(),
    };
    server.declare(device, declaration);
    let of = [("group", "/"), ("application", "kiosk"), ("locks", "lines"), ("settings", "{\"lines\": 40}")];
    let asked = post(&server, "/policies/edit", &[&of[..], &[("action", "preview")]].concat());
    asked.shows("Not saved yet. 1 device would have other settings.");
    asked.shows("<h2>kiosk-17</h2>");
    asked.shows("musterctl policy set --group &#39;/&#39; --application kiosk --file settings.json");
    assert_eq!(server.json(&["policy", "list"]), serde_json::json!([]));
    let file = server.file("kiosk.json", "{\"lines\": 41}");
    let command = ["policy", "set", "--group", "/", "--application", "kiosk", "--file", &file, "--dry-run"];
    assert_eq!(server.done(&command), "1 device would have other settings\n  kiosk-17\n    lines = 41\n");
    assert!(server.notifications.notified.lock().unwrap().is_empty());

    let wrong = [("group", "/"), ("application", "kiosk"), ("action", "save"), ("settings", "{\"lines\": }")];
    let refused = post(&server, "/policies/edit", &wrong);
    assert_eq!(refused.status, 400);
    refused.shows("{&#34;lines&#34;: }</textarea>");
    let lines = [("group", "/"), ("application", "kiosk"), ("settings", "{\r\n  \"lines\": 40\r\n}")];
    let asked = post(&server, "/policies/edit", &[&lines[..], &[("action", "preview")]].concat());
    asked.shows("{\n  &#34;lines&#34;: 40\n}</textarea>");
    let saved = post(&server, "/policies/edit", &[&of[..], &[("action", "save")]].concat());
    assert_eq!(saved.header("location"), "/policies?done=set&number=1");
    get(&server, "/policies/edit?group=/&application=kiosk").shows("&#34;lines&#34;: 40");
    get(&server, &format!("/devices/{device}?explain=kiosk"))
        .shows("<h2>Origin of the settings of kiosk</h2>");

    let id = device.to_string();
    let own = [("device", &*id), ("application", "kiosk"), ("settings", "{\"rows\": 1}"), ("action", "save")];
    assert_eq!(
        post(&server, "/policies/edit", &own).header("location"),
        format!("/devices/{id}?done=set&number=1")
    );
    assert_eq!(server.json(&["settings", "show", "--device", "kiosk-17"])[0]["settings"]["rows"], 1);
    // The editor holds what is the device's own: saved again, all else stays its group's to say.
    let editor = get(&server, &format!("/policies/edit?device={id}&application=kiosk"));
    editor.shows("&#34;rows&#34;: 1");
    assert!(!editor.body.contains("&#34;lines&#34;"), "{}", editor.body);
    let remove = [("group", "/"), ("application", "kiosk"), ("action", "remove")];
    let asked = post(&server, "/policies/edit", &remove);
    asked.shows("Not saved yet. 1 device would have other settings.");
    asked.shows("<h1>Remove the policy for kiosk?</h1>");
    assert_eq!(server.json(&["policy", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(post(&server, "/policies/edit", &[&remove[..], &[("sure", "on")]].concat()).status, 303);
    assert_eq!(server.json(&["policy", "list"]), serde_json::json!([]));

    // Its versions, what differs between two, and the way back.
    let versions = get(&server, "/policies/history?group=/&application=kiosk");
    versions.shows("musterctl policy history --group &#39;/&#39; --application kiosk");
    versions.shows("removed");
    let first = get(&server, "/policies/history?group=/&application=kiosk&revision=1&to=1");
    first.shows("Nothing differs.");
    let first = get(&server, "/policies/history?group=/&application=kiosk&revision=1");
    first.shows("<td data-head=\"Revision 1\"><code>40</code>");
    first.shows("name=\"locks\" value=\"lines\"");
    first.shows("musterctl policy revert --group &#39;/&#39; --application kiosk --revision 1 --dry-run");
    assert_eq!(get(&server, "/policies/history?group=/&application=kiosk&revision=99").status, 400);
    assert_eq!(get(&server, "/policies/history?group=/none&application=kiosk").status, 404);
}

#[test]
fn a_task_is_made_for_a_filter_once_its_number_was_said_and_cancelled() {
    let server = AdminServer::start();
    server.enrol_many(&["kiosk-1", "kiosk-2", "spare-1"].map(str::to_owned));
    let new = [("application", "kiosk"), ("kind", "restart"), ("where", "name:kiosk-*"), ("timeout", "5m")];
    let asked = post(&server, "/tasks/new", &new);
    asked.shows("It is for 2 devices, now.");
    asked.shows("value=\"restart\"");
    let made = post(&server, "/tasks/new", &[&new[..], &[("sure", "2")]].concat());
    assert_eq!(made.status, 303, "{}", made.body);
    let page = get(&server, made.header("location"));
    page.shows("The task is made, for 2 devices.");
    page.shows("data-live");
    let url = made.header("location").split('?').next().unwrap().to_owned();
    assert_eq!(get(&server, "/runs/1").status, 400);
    get(&server, "/tasks?state=active").shows(&url);
    assert_eq!(post(&server, &url, &[("action", "cancel")]).status, 303);
    get(&server, &url).shows("cancelled");
    let wrong = post(&server, "/tasks/new", &[("application", "kiosk"), ("kind", "x"), ("settings", "[]")]);
    assert_eq!(wrong.status, 400);
}

#[test]
fn tokens_are_made_shown_once_and_withdrawn() {
    let server = AdminServer::start();
    let made = post(&server, "/access", &[("action", "join"), ("uses", "3"), ("approval", "on")]);
    made.shows("It is shown this once:");
    made.shows("For one line that installs the agent, set listen in [admin]");
    let made =
        post(&server, "/access", &[("action", "api"), ("name", "anna"), ("role", "reader"), ("ttl", "8h")]);
    made.shows("musterctl api-token create anna --role reader");
    let listed = server.json(&["api-token", "list"]);
    let id = listed[0]["id"].as_str().unwrap();
    get(&server, "/access").shows(&format!("value=\"{id}\""));
    let done = post(&server, "/access", &[("action", "revoke-api"), ("id", id)]);
    assert_eq!(done.header("location"), "/access?done=revoked&number=0");
    assert_eq!(server.json(&["api-token", "list"])[0]["state"], "revoked");
    let token = server.json(&["token", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(post(&server, "/access", &[("action", "revoke-join"), ("id", &token)]).status, 303);
    assert_eq!(post(&server, "/access", &[("action", "join"), ("ttl", "long")]).status, 400);
}

#[test]
fn events_are_listed_by_what_the_address_says() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    server.event(device, Severity::Info, "all is well");
    server.event(device, Severity::Error, "the disk is full");
    let page = get(&server, "/events?severity=warning&since=1h");
    page.shows("the disk is full disk=&#34;sdb&#34;");
    page.shows("musterctl event list --severity warning --since 1h");
    page.shows("data-live=\"/events/live?from=200&#38;severity=warning\"");
    assert!(!page.body.contains("all is well"));
    let before = get(&server, "/events?until=2020-01-01T00:00:00Z");
    before.shows("There is no such event.");
    before.shows("musterctl event list --until 2020-01-01T00:00:00Z");
    assert!(!before.body.contains("data-live"), "nothing comes in a time that is over");
    get(&server, "/events?until=2120-01-01T00:00:00Z").shows("the disk is full");
    let wrong = get(&server, "/events?since=yesterday");
    assert_eq!(wrong.status, 400);
    wrong.shows("value=\"yesterday\"");
}

/// Reads a stream until a text has come; all that has.
fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&read).contains(end) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

#[test]
fn new_events_come_to_a_page_that_is_open_and_go_on_where_it_was() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    server.event(device, Severity::Info, "one");
    let follow = |more: &str| {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        write!(stream, "GET /events/live?from=100 HTTP/1.1\r\nhost: x\r\n{more}\r\n").unwrap();
        stream
    };
    let mut stream = follow("");
    server.event(device, Severity::Critical, "<b>two</b>");
    let read = read_until(&mut stream, "id: 200\n");
    assert!(read.contains("content-type: text/event-stream"), "{read}");
    let read = read + &read_until(&mut stream, "\n\n");
    assert!(read.contains("&#60;b&#62;two&#60;/b&#62;") && !read.contains("<b>"), "{read}");
    // A browser that comes again goes on behind it, also when nothing was said since.
    assert!(read.contains("event: row\nid: 200\ndata: "), "{read}");
    drop(stream);
    server.event(device, Severity::Info, "three");
    let read = read_until(&mut follow("last-event-id: 200\r\n"), "id: 300\n");
    assert!(!read.contains("two"), "{read}");
    for number in 0..1_200 {
        server.log.push(device, Severity::Info, &number.to_string());
    }
    let read = read_until(&mut follow("last-event-id: 300\r\n"), "id: 120300\n\n");
    assert!(
        read.contains("id: 115300\ndata: <tr><td class=\"quiet\" colspan=\"6\"><span>1,150 events more, "),
        "{read}"
    );
    assert_eq!(read.matches("event: row").count(), 51);
    // Those that have gone leave their places.
    let mut places = Vec::new();
    eventually("all places are taken", || {
        let mut place = follow("");
        let answer = read_until(&mut place, "\r\n\r\n");
        places.push(place);
        answer.starts_with("HTTP/1.1 503")
    });
    assert!(places.len() > FOLLOWERS_MAX, "{}", places.len());
    let refused = get(&server, "/events/live");
    assert_eq!(refused.status, 503);
    refused.shows("clients follow the events already");
}

#[test]
fn the_api_is_shown_as_it_describes_itself() {
    let server = AdminServer::start();
    let all = get(&server, "/api");
    all.shows("<a href=\"/api?operation=post_policies_remove\">POST /v1/policies/remove</a>");
    all.shows("<a href=\"/api?type=Policy\">page of Policy</a>");
    let one = get(&server, "/api?operation=post_policies");
    one.shows("<code>application</code>");
    one.shows("Needs the role policy-author on the groups in question.");
    one.shows("curl --unix-socket muster-data/admin.sock -X POST");
    one.shows("href=\"/api?type=SettingsChanged\"");
    one.shows("409");
    let described = crate::visitor::ask(&server, "GET /v1/openapi.json", "", "").body;
    let document: serde_json::Value = serde_json::from_str(&described).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            get(&server, &format!("/api?operation={name}"))
                .shows(&format!("<h1>{} {path}</h1>", method.to_uppercase()));
        }
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        get(&server, &format!("/api?type={name}")).shows(&format!("<h1>{name}</h1>"));
    }
    assert_eq!(get(&server, "/api?type=Nothing").status, 404);
}

#[test]
fn a_step_of_the_certificate_is_asked_about_and_refused_as_elsewhere() {
    let server = AdminServer::start();
    let asked = post(&server, "/server", &[("action", "prepare")]);
    asked.shows("<h1>Prepare the next key?</h1>");
    asked.shows("musterctl certificate prepare");
    let switch = [("action", "switch"), ("share", "95")];
    post(&server, "/server", &switch).shows("value=\"95\"");
    assert_eq!(server.json(&["audit", "list"]), serde_json::json!([]));
    let refused =
        post(&server, "/server", &[("action", "prepare"), ("sure", "on"), ("recovery_key", "PRIVATE KEY")]);
    assert_eq!(refused.status, 409);
    assert!(!refused.body.contains("PRIVATE KEY"), "{}", refused.body);
    let rows = server.json(&["audit", "list"]);
    assert!(
        rows[0]["action"] == "POST /v1/certificate" && !rows.to_string().contains("PRIVATE KEY"),
        "{rows}"
    );
    assert_eq!(post(&server, "/server", &[("action", "steal")]).status, 400);
}
