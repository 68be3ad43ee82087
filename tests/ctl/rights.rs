//! Every route of the API, for every role, on the group of a token, below it, beside it and above it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::kit::admin::AdminServer;
use muster::fleet::access::Grant;
use muster::store::{DeviceChange, GroupChange, LinkLife, NewApiToken, NewUser, TaskTime};
use muster::wire::artifact::ArtifactUse;
use muster::wire::id::{CertificateHash, DeviceId};
use muster::wire::role::Role::{self, Administrator, Operator, PolicyAuthor, Reader};
use muster::wire::settings::{Declaration, TaskKind};
use muster::wire::time::WallTime;
use muster::wire::token::ApiTokenText;

/// The things that a route is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// The thing of a group: `{group}`, `{device}` and so on stand in path or body.
    Thing,
    /// A list that shows what may be seen, to everybody.
    List,
    /// The whole fleet.
    Fleet,
}
use Reach::{Fleet, List, Thing};

/// Method and path, body, the least role, and what it is about.
const ROUTES: &[(&str, &str, Role, Reach)] = &[
    ("GET /metrics", "", Reader, Fleet),
    ("GET /v1/openapi.json", "", Reader, List),
    ("GET /install", "", Reader, List),
    ("GET /install/agent/{sha256}", "", Reader, List),
    ("GET /v1/status", "", Reader, Fleet),
    ("POST /v1/api-tokens", r#"{"name":"x","role":"administrator","group":"{group}"}"#, Administrator, Thing),
    ("GET /v1/api-tokens", "", Administrator, List),
    ("DELETE /v1/api-tokens/{api-token}", "", Administrator, Thing),
    ("POST /v1/users", r#"{"name":"x","role":"administrator","group":"{group}"}"#, Administrator, Thing),
    ("GET /v1/users", "", Administrator, List),
    ("PATCH /v1/users/{user}", r#"{"role":"reader"}"#, Administrator, Thing),
    ("PATCH /v1/users/mine", r#"{"group":"{group}"}"#, Administrator, Thing),
    ("POST /v1/users/{user}/link", "", Administrator, Thing),
    ("DELETE /v1/users/{user}", "", Administrator, Thing),
    ("POST /v1/sessions", "{}", Reader, List),
    ("POST /v1/sessions/api-token", "{}", Reader, List),
    ("POST /v1/sessions/openid", "{}", Reader, List),
    ("GET /v1/session", "", Reader, List),
    ("DELETE /v1/session", "", Reader, List),
    ("GET /v1/audit", "", Administrator, Fleet),
    ("GET /v1/audit/verify", "", Administrator, Fleet),
    ("GET /v1/backup", "", Administrator, Fleet),
    ("GET /v1/certificate", "", Administrator, Fleet),
    ("POST /v1/certificate", r#"{"step":"prepare"}"#, Administrator, Fleet),
    ("POST /v1/recovery-key", "", Administrator, Fleet),
    ("POST /v1/tokens", r#"{"group":"{group}"}"#, Administrator, Thing),
    ("GET /v1/tokens", "", Administrator, List),
    ("DELETE /v1/tokens/{token}", "", Administrator, Thing),
    ("GET /v1/devices", "", Reader, List),
    ("GET /v1/devices?where=group:{group}", "", Reader, List),
    ("GET /v1/devices.csv", "", Reader, List),
    ("POST /v1/device-changes", r#"{"where":"x","change":{"group":"{group}"}}"#, Operator, Thing),
    ("POST /v1/device-changes", r#"{"where":"x","change":{"keep_connected":false}}"#, Operator, List),
    ("POST /v1/device-approvals", r#"{"where":"x","group":"{group}"}"#, Operator, Thing),
    ("POST /v1/device-approvals", r#"{"where":"x"}"#, Operator, List),
    ("POST /v1/device-removals", r#"{"where":"x"}"#, Administrator, List),
    ("GET /v1/facets", "", Reader, List),
    ("GET /v1/tags", "", Reader, Fleet),
    ("POST /v1/tags/{tag}", r#"{"devices":["{device}"]}"#, Operator, Thing),
    ("POST /v1/tags/{tag}", r#"{"where":"x"}"#, Operator, List),
    ("PATCH /v1/tags/{tag}", r#"{"rule":"os:x"}"#, Operator, Fleet),
    ("DELETE /v1/tags/{tag}", "", Operator, Fleet),
    ("GET /v1/views", "", Reader, List),
    ("POST /v1/views", r#"{"name":"x","where":"os:x"}"#, Operator, Fleet),
    ("DELETE /v1/views/{view}", "", Operator, Fleet),
    ("POST /v1/devices/{device}/approve", "{}", Operator, Thing),
    ("POST /v1/devices/{device}/re-enrol", "{}", Administrator, Thing),
    ("POST /v1/devices/mine/approve", r#"{"group":"{group}"}"#, Operator, Thing),
    ("GET /v1/devices/{device}", "", Reader, Thing),
    ("PATCH /v1/devices/{device}", r#"{"keep_connected":false}"#, Operator, Thing),
    ("PATCH /v1/devices/mine", r#"{"group":"{group}"}"#, Operator, Thing),
    ("DELETE /v1/devices/{device}", "", Administrator, Thing),
    ("GET /v1/devices/{device}/why", "", Reader, Thing),
    ("POST /v1/syncs", r#"{"devices":["{device}"]}"#, Operator, Thing),
    ("POST /v1/syncs", r#"{"group":"{group}"}"#, Operator, Thing),
    ("POST /v1/syncs", r#"{"all":true}"#, Operator, List),
    ("POST /v1/syncs", r#"{"where":"x"}"#, Operator, List),
    ("GET /v1/applications", "", Reader, Fleet),
    ("GET /v1/applications?device={device}", "", Reader, Thing),
    ("GET /v1/installations", "", Reader, Fleet),
    ("GET /v1/installations?device={device}", "", Reader, Thing),
    ("GET /v1/events", "", Reader, Fleet),
    ("GET /v1/events?device={device}", "", Reader, Thing),
    ("GET /v1/events/follow", "", Reader, Fleet),
    ("GET /v1/events/follow?device={device}", "", Reader, Thing),
    ("POST /v1/groups", r#"{"path":"{group}/new"}"#, PolicyAuthor, Thing),
    ("POST /v1/groups", r#"{"path":"{group}","keep_connected":false}"#, PolicyAuthor, Thing),
    ("GET /v1/groups", "", Reader, List),
    ("POST /v1/groups/move", r#"{"from":"{group}/a","to":"{group}/b","dry_run":true}"#, PolicyAuthor, Thing),
    ("POST /v1/groups/move", r#"{"from":"/mine/a","to":"{group}/c","dry_run":true}"#, PolicyAuthor, Thing),
    ("POST /v1/groups/remove", r#"{"path":"{group}/a","dry_run":true}"#, PolicyAuthor, Thing),
    ("GET /v1/policies", "", Reader, List),
    ("GET /v1/policies/history?application=muster&group={group}", "", Reader, Thing),
    ("POST /v1/policies", r#"{"at":"{group}","application":"muster","settings":{}}"#, PolicyAuthor, Thing),
    ("POST /v1/policies/remove", r#"{"at":"{group}","application":"muster"}"#, PolicyAuthor, Thing),
    ("POST /v1/settings", r#"{"at":"{device}","application":"muster","settings":{}}"#, PolicyAuthor, Thing),
    ("POST /v1/settings/remove", r#"{"at":"{device}","application":"muster"}"#, PolicyAuthor, Thing),
    ("GET /v1/devices/{device}/settings", "", Reader, Thing),
    ("GET /v1/devices/{device}/settings/explain?application=muster", "", Reader, Thing),
    ("GET /v1/tasks", "", Reader, List),
    ("POST /v1/tasks", r#"{"application":"a","kind":"k","targets":{"group":"{group}"}}"#, Operator, Thing),
    (
        "POST /v1/tasks",
        r#"{"application":"a","kind":"k","targets":{"devices":["{device}"]}}"#,
        Operator,
        Thing,
    ),
    ("POST /v1/tasks", r#"{"application":"a","kind":"k","targets":"all"}"#, Operator, Fleet),
    ("POST /v1/tasks", r#"{"application":"a","kind":"k","targets":{"where":"x"}}"#, Operator, List),
    ("GET /v1/runs?device={device}", "", Reader, Thing),
    ("GET /v1/artifacts", "", Reader, List),
    ("POST /v1/artifacts?name=x", "content", Operator, List),
    ("DELETE /v1/artifacts/{artifact}", "", Operator, Fleet),
];

/// Routes of which a task or a run is the thing: tried by
/// `a_task_is_seen_by_those_who_see_all_that_it_is_for`.
const OF_TASKS: [&str; 4] = ["/v1/tasks/{id}", "/v1/tasks/{id}/cancel", "/v1/runs", "/v1/runs/{id}"];

/// The group of the grant, one below it, one beside it.
const GROUPS: [&str; 3] = ["/mine", "/mine/a", "/mine2"];

fn sent(server: &AdminServer, head: &str, more: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    let length = body.len();
    let head =
        format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    // Of a stream without end the head is enough.
    let mut answer = vec![0; 64 * 1024];
    let mut bytes = 0;
    while !answer[..bytes].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut answer[bytes..]).unwrap() {
            0 => break,
            read => bytes += read,
        }
    }
    if !head.starts_with("GET /v1/events/follow") && !head.starts_with("GET /v1/backup") {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        answer.truncate(bytes);
        answer.extend(rest);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text[9..12].parse().unwrap_or_else(|_| panic!("{head}: {text}")), text)
}

fn bearer(server: &AdminServer, role: Role, group: &str) -> String {
    let grant = Grant { role, group: group.to_owned() };
    let (created_at, expires_at) = (crate::kit::now(), WallTime(crate::kit::now().0 + 3_600_000));
    let new = NewApiToken { name: "x".into(), grant, user: None, created_at, expires_at };
    let (info, secret) = server.store.api_tokens().create(new).unwrap();
    let text = ApiTokenText { id: info.id, secret, server_certificate: CertificateHash([0xab; 32]) };
    format!("authorization: Bearer {text}\r\n")
}

/// A device in each group that is named after it, and one that is moved about.
fn fleet() -> AdminServer {
    let server = AdminServer::start();
    for group in GROUPS.into_iter().chain(["/mine/a/a", "/mine2/a", "/other"]) {
        server.store.devices().set_group(group, GroupChange::default()).unwrap();
    }
    moved(&server, server.enrol("mine"), "/mine");
    user(&server, "mine", "/mine");
    server
}

fn user(server: &AdminServer, name: &str, group: &str) {
    let grant = Grant { role: Administrator, group: group.to_owned() };
    let life = LinkLife { created_at: crate::kit::now(), expires_at: WallTime(crate::kit::now().0 + 60_000) };
    server.store.users().create(NewUser { name: name.to_owned(), grant }, life).unwrap();
}

fn moved(server: &AdminServer, device: DeviceId, group: &str) {
    let change = DeviceChange { group: Some(group.to_owned()), ..DeviceChange::default() };
    server.store.devices().change(device, change).unwrap();
}

/// A request about the things of a group, which are there.
fn filled(server: &AdminServer, text: &str, group: &str, number: usize) -> String {
    let mut text = text.replace("{group}", group).replace("{tag}", "x").replace("{view}", "x");
    if text.contains("{device}") {
        let device = DeviceId(0x1001 + number as u64);
        moved(server, device, group);
        text = text.replace("{device}", &device.to_string());
    }
    if text.contains("{user}") {
        user(server, &format!("user-{number}"), group);
        text = text.replace("{user}", &format!("user-{number}"));
    }
    if text.contains("{token}") {
        let made = server.json(&["token", "create", "--group", group]);
        text = text.replace("{token}", made["id"].as_str().unwrap());
    }
    if text.contains("{artifact}") {
        let file = server.file("artifact", &format!("content {number}"));
        let added = server.json(&["artifact", "add", &file]);
        text = text.replace("{artifact}", added["hash"].as_str().unwrap());
    }
    if text.contains("{api-token}") {
        let made = server.json(&["api-token", "create", "x", "--role", "reader", "--group", group]);
        text = text.replace("{api-token}", made["id"].as_str().unwrap());
    }
    text
}

#[test]
fn every_route_is_for_those_who_have_the_role_on_the_group() {
    let server = fleet();
    let requests = Role::ALL.len() * ROUTES.len() * GROUPS.len() * 2;
    server.enrol_many(&(0..=requests).map(|number| format!("device-{number}")).collect::<Vec<_>>());
    let mut number = 0;
    for role in Role::ALL {
        let (on_mine, on_all) = (bearer(&server, role, "/mine"), bearer(&server, role, "/"));
        for (route, body, least, reach) in ROUTES {
            for group in GROUPS {
                for (token, has_all) in [(&on_mine, false), (&on_all, true)] {
                    number += 1;
                    let request = filled(&server, route, group, number);
                    let body = filled(&server, body, group, number);
                    let (status, answer) = sent(&server, &request, token, &body);
                    let is_there = match reach {
                        Thing => has_all || group == "/mine" || group == "/mine/a",
                        List => true,
                        Fleet => has_all,
                    };
                    let may = role >= *least && is_there;
                    // A thing that may not be seen is not there.
                    let is_refused = status == 403 || (status == 404 && !may);
                    assert_eq!(
                        !is_refused,
                        may,
                        "{role} on {}: {request} {body}: {answer}",
                        if has_all { "/" } else { "/mine" }
                    );
                    assert!(
                        status != 401
                            && (status != 404
                                || !may
                                || body.contains("muster")
                                || request.contains("/x")
                                || request.contains("/agent/")),
                        "{request} {body}: {answer}"
                    );
                    moved(&server, DeviceId(0x1000), "/mine");
                    let mine = Grant { role: Administrator, group: "/mine".to_owned() };
                    server.store.users().change("mine".to_owned(), mine, crate::kit::now()).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_selection_holds_none_but_ones_own() {
    let server = fleet();
    moved(&server, server.enrol("below"), "/mine/a");
    moved(&server, server.enrol("beside"), "/mine2");
    let waiting = server.enrol_waiting(&["waits".to_owned(), "waits-beside".to_owned()]);
    moved(&server, waiting[0], "/mine");
    moved(&server, waiting[1], "/mine2");
    let token = bearer(&server, Administrator, "/mine");
    let meant = |route: &str, body: &str| sent(&server, &format!("POST {route}"), &token, body).1;
    for (route, more, own) in [
        ("/v1/tags/x", "", 2),
        ("/v1/device-changes", r#","change":{"interval":{"seconds":60}}"#, 2),
        ("/v1/device-approvals", "", 1),
        ("/v1/device-removals", "", 3),
    ] {
        for is_dry in [true, false] {
            let body = format!(r#"{{"where":"","dry_run":{is_dry}{more}}}"#);
            let answer = meant(route, &body);
            assert!(answer.contains(&format!(r#"{{"devices":{own}}}"#)), "{route} {body}: {answer}");
        }
    }
    let left = server.json(&["device", "list"]);
    let left: Vec<_> = left.as_array().unwrap().iter().map(|device| &device["name"]).collect();
    assert_eq!(left, ["beside", "waits-beside"]);
    let waiting = server.json(&["device", "list", "--presence", "waiting"]);
    assert_eq!(waiting.as_array().unwrap().len(), 1, "the other one's still waits");
}

#[test]
fn no_route_is_left_out_and_none_is_there_that_is_not_described() {
    let server = AdminServer::start();
    let (_, answer) = sent(&server, "GET /v1/openapi.json", "", "");
    let document: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let mut routes = Vec::new();
    for (path, described) in document["paths"].as_object().unwrap() {
        let at: Vec<_> = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        for method in ["get", "post", "patch", "delete", "put"] {
            let is_described = !described[method].is_null();
            let name = method.to_uppercase();
            let (status, answer) = sent(&server, &format!("{name} {}", at.join("/")), "", "");
            assert_eq!(status != 405, is_described, "{name} {path}: {answer}");
            assert!(!answer.contains("there is no path"), "{name} {path}");
            let is_said = described[method]["responses"].get(status.to_string()).is_some();
            assert!(is_said || !is_described, "{name} {path} answers {status}: {answer}");
            if is_described {
                routes.push((name, path.as_str()));
            }
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    for (method, path) in routes {
        // Parameters are named after the thing there, and by their place here.
        let wanted: Vec<&str> = path.split('/').collect();
        let is_same = |route: &&(&str, &str, Role, Reach)| {
            let (of, at) = route.0.split_once(' ').unwrap();
            let parts: Vec<&str> = at.split('?').next().unwrap().split('/').collect();
            let fits = |(part, wanted): (&&str, &&str)| {
                part == wanted || wanted.starts_with('{') && part.starts_with('{')
            };
            of == method && parts.len() == wanted.len() && parts.iter().zip(&wanted).all(fits)
        };
        assert!(
            OF_TASKS.contains(&path) || ROUTES.iter().find(is_same).is_some(),
            "{method} {path} is tried by nobody"
        );
    }
}

#[test]
fn a_task_is_seen_by_those_who_see_all_that_it_is_for() {
    let server = fleet();
    for (name, group) in [("theirs", "/other"), ("below", "/mine/a"), ("beside", "/mine2")] {
        moved(&server, server.enrol(name), group);
    }
    let made: Vec<(String, bool)> = [
        (&["--group", "/mine"][..], true),
        (&["--group", "/mine/a"], true),
        (&["--device", "mine"], true),
        (&["--group", "/mine2"], false),
        (&["--device", "theirs"], false),
        (&["--device", "mine", "--device", "theirs"], false),
        (&["--all"], false),
        (&["--where", "name:mine"], false),
    ]
    .into_iter()
    .map(|(targets, is_mine)| {
        let task = [&["task", "create", "--application", "a", "--kind", "k"], targets].concat();
        (server.json(&task)["id"].as_str().unwrap().to_owned(), is_mine)
    })
    .collect();
    while server.store.tasks().step(TaskTime::certain(crate::kit::now())).unwrap().has_more {}
    let status = |role, group, request: &str| sent(&server, request, &bearer(&server, role, group), "").0;
    for (id, is_mine) in &made {
        let there = if *is_mine { 200 } else { 404 };
        assert_eq!(status(Reader, "/mine", &format!("GET /v1/tasks/{id}")), there);
        assert_eq!(status(Reader, "/mine", &format!("GET /v1/runs?task={id}")), there);
        assert_eq!(status(Reader, "/", &format!("GET /v1/tasks/{id}")), 200);
        let runs = server.json(&["task", "show", id])["runs"].clone();
        assert_ne!(runs, serde_json::json!([]));
        for run in runs.as_array().unwrap() {
            let request = format!("GET /v1/runs/{}", run["id"].as_str().unwrap());
            let is_seen = run["device"] == "mine" || run["device"] == "below";
            let expected = if is_seen { 200 } else { 404 };
            assert_eq!(status(Reader, "/mine", &request), expected, "{run}");
            assert_eq!(status(Reader, "/", &request), 200);
        }
        let cancel = format!("POST /v1/tasks/{id}/cancel");
        assert_eq!(status(Reader, "/", &cancel), 403);
        assert_eq!(status(Operator, "/mine", &cancel), there);
        assert_eq!(server.json(&["task", "show", id])["task"]["state"] == "cancelled", *is_mine);
    }
}

#[test]
fn nobody_who_is_not_known_learns_anything_not_even_which_paths_there_are() {
    let server = fleet();
    let good = bearer(&server, Administrator, "/");
    let token = good.trim().rsplit(' ').next().unwrap();
    let mut secret: ApiTokenText = token.parse().unwrap();
    secret.secret[0] ^= 1;
    let id = secret.id;
    let wrong = [
        format!("authorization: Bearer {secret}\r\n"),
        "authorization: Bearer \r\n".to_owned(),
        "authorization: Basic YTpi\r\n".to_owned(),
        format!("authorization: bearer {token}x\r\n"),
        "authorization: Bearer muster1-abc\r\n".to_owned(),
    ];
    for path in ["GET /v1/status", "GET /v1/nothing", "DELETE /v1/status", "GET //", "GET /v1/%2e%2e/status"]
    {
        for header in &wrong {
            let (status, answer) = sent(&server, path, header, "");
            assert_eq!(status, 401, "{path} {header}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
        }
    }
    assert_eq!(sent(&server, "GET /v1/status", &good, "").0, 200);
    for path in ["GET //v1/status", "GET /v1/./status", "GET /v1/devices/..%2fstatus", "GET /V1/status"] {
        assert_eq!(sent(&server, path, &good, "").0, 404, "{path}");
    }
    // As a page of another site has a browser ask, with a token that is good.
    for header in [
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "origin: https://evil.example\r\n",
        "origin: null\r\n",
    ] {
        assert_eq!(sent(&server, "GET /v1/status", &format!("{good}{header}"), "").0, 403, "{header}");
    }
    assert_eq!(
        sent(
            &server,
            "GET /v1/status",
            &format!("{good}sec-fetch-site: same-origin\r\norigin: https://x\r\n"),
            ""
        )
        .0,
        200
    );
    server.done(&["api-token", "revoke", &id.to_string()]);
    assert_eq!(sent(&server, "GET /v1/status", &good, "").0, 401);
}

#[test]
fn lists_show_ones_own_groups_alone_and_the_audit_names_the_token() {
    let server = fleet();
    let theirs = server.enrol("theirs");
    moved(&server, theirs, "/other");
    user(&server, "theirs", "/other");
    for device in [DeviceId(0x1000), theirs] {
        let kind = TaskKind {
            kind: "restart".into(),
            schema: String::new(),
            timeout_seconds: 600,
            is_repeatable: true,
            artifact: ArtifactUse::None,
        };
        let (application, settings_schema) = ("kiosk".to_owned(), String::new());
        let declaration =
            Declaration { application, takes_settings: true, settings_schema, kinds: vec![kind] };
        server.declare(device, declaration);
    }
    let file = server.file("kiosk.json", "{}");
    for group in ["/mine", "/other"] {
        server.done(&["policy", "set", "--group", group, "--application", "kiosk", "--file", &file]);
        server.json(&["task", "create", "--application", "kiosk", "--kind", "restart", "--group", group]);
        server.json(&["token", "create", "--group", group]);
        server.json(&["api-token", "create", "of", "--role", "reader", "--group", group]);
    }
    let made = server.json(&["api-token", "create", "anna", "--role", "administrator", "--group", "/mine"]);
    let token = made["token"].as_str().unwrap();
    let ctl = |arguments: &[&str]| {
        let mut command = server.command(arguments);
        crate::kit::admin::Ran::of(command.env("MUSTER_API_TOKEN", token).output().unwrap())
    };
    let names = |arguments: &[&str], key: &str| -> Vec<String> {
        let list = ctl(&[arguments, &["--json"]].concat()).json();
        list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["device", "list"], "name"), ["mine"]);
    assert_eq!(names(&["group", "list"], "path"), ["/mine", "/mine/a", "/mine/a/a"]);
    assert_eq!(names(&["token", "list"], "group"), ["/mine"]);
    assert_eq!(names(&["api-token", "list"], "group"), ["/mine", "/mine"]);
    assert_eq!(names(&["user", "list"], "name"), ["mine"]);
    assert_eq!(names(&["policy", "list"], "group"), ["/mine"]);
    assert_eq!(ctl(&["task", "list", "--json"]).json().as_array().unwrap().len(), 1);
    assert_eq!(ctl(&["device", "list", "--csv"]).out.lines().count(), 2, "heads and one device");
    assert_eq!(ctl(&["device", "list", "--facets", "--json"]).json()["devices"], 1);
    assert!(names(&["device", "list", "--group", "/other"], "name").is_empty());
    assert!(names(&["device", "list", "--where", "name:* or theirs"], "name").len() == 1);
    let broken_out = ctl(&["device", "list", "--where", "x) or (name:*"]);
    assert_eq!((broken_out.code, broken_out.out.as_str()), (2, ""), "{}", broken_out.err);
    ctl(&["device", "sync", "--where", "theirs"]);
    assert!(server.calls().is_empty());
    let refused = ctl(&["token", "create", "--group", "/other"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .err
            .contains("this needs the role administrator on /other, and yours is administrator on /mine"),
        "{}",
        refused.err
    );
    // A group can't go while somebody may something on it, nor be left by what it has.
    assert!(
        ctl(&["group", "remove", "/mine", "--recursive"])
            .err
            .contains("this needs the role policy-author on /")
    );
    assert!(
        server
            .refused(1, &["group", "remove", "/mine", "--recursive"])
            .contains("2 API tokens may something on /mine")
    );
    assert!(ctl(&["token", "create", "--group", "/other"]).err.contains("the role administrator on /other"));
    let rows = server.json(&["audit", "list"]);
    let last = rows.as_array().unwrap().iter().rev().find(|row| row["actor"] != rows[0]["actor"]).unwrap();
    assert_eq!(last["actor"], format!("api token {} (anna)", made["id"].as_str().unwrap()));
    assert!(last["outcome"].as_str().unwrap().starts_with("forbidden: "));
}
