//! Names that are markup, requests of other sites, people who may less.

use crate::kit::admin::AdminServer;
use crate::visitor::{ask, encoded, get, post};
use muster::fleet::access::Grant;
use muster::machine::command::SectionChange;
use muster::store::NewApiToken;
use muster::wire::digest::Digest;
use muster::wire::event::Severity;
use muster::wire::id::CertificateHash;
use muster::wire::role::Role;
use muster::wire::section::{HostFacts, Section};
use muster::wire::time::WallTime;
use muster::wire::token::ApiTokenText;

/// Markup, an attribute's end, and characters that reorder a line.
const SCRIPT: &str = "\"><script>alert(1)</script>'{{7*7}}";

#[test]
fn what_devices_choose_is_text_on_every_page() {
    let server = AdminServer::start();
    let device = server.enrol(SCRIPT);
    let facts = HostFacts {
        os_name: SCRIPT.into(),
        hostname: SCRIPT.into(),
        kernel: format!("{SCRIPT}\u{202e}"),
        ..HostFacts::default()
    };
    server.apply(device, Section::Host, Digest(1), SectionChange::Host(facts));
    server.event(device, Severity::Critical, &format!("{SCRIPT}\u{202e}"));
    let make = [("application", SCRIPT), ("kind", SCRIPT), ("where", ""), ("name", SCRIPT)];
    let task = post(&server, "/tasks/new", &[&make[..], &[("sure", "1")]].concat());
    server.done(&["tag", "set", "x", "--device", &device.to_string()]);
    let typed = &encoded(&[("", SCRIPT)])[1..];
    let mut shown = 0;
    for url in [
        "/",
        "/devices",
        &format!("/devices/{device}"),
        &format!("/devices?where={typed}"),
        &format!("/applications?name={typed}"),
        &format!("/policies?group={typed}"),
        &format!("/policies/edit?group=/&application={typed}"),
        &format!("/tasks/new?where={typed}"),
        "/tasks",
        task.header("location"),
        "/events",
        "/access",
        "/audit",
    ] {
        let page = get(&server, url).body;
        assert!(!page.contains("<script>") && !page.contains('\u{202e}'), "{url}: {page}");
        shown += usize::from(page.contains("&#60;script&#62;"));
    }
    assert!(shown >= 9, "only {shown} pages show it");
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for from in [
        "origin: https://evil.example\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "origin: null\r\n",
    ] {
        let body = encoded(&[("action", "remove"), ("sure", "on")]);
        let answer = ask(&server, &format!("POST /devices/{device}"), &format!("{form}{from}"), &body);
        assert_eq!(answer.status, 403, "{from}: {}", answer.body);
        answer.shows("a page of another site asks");
    }
    assert_eq!(server.json(&["device", "list"]).as_array().unwrap().len(), 1);
    // A text on a page is never somebody else's.
    let page = get(&server, "/devices?done=%3Cb%3Egive+us+your+password&number=x");
    assert!(!page.body.contains("password"));
}

#[test]
fn paths_lead_nowhere_else() {
    let server = AdminServer::start();
    for path in [
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/",
        "/devices/..%2f..%2fv1%2fstatus",
        "/devices/%00",
        "//evil.example/",
    ] {
        let answer = get(&server, path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.body);
    }
    let answer = get(&server, "/devices?done=saved&where=%0d%0aset-cookie:x=1");
    assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
}

/// Headers of somebody with a role on a group.
fn signed_in(server: &AdminServer, role: Role, group: &str) -> String {
    let grant = Grant { role, group: group.to_owned() };
    let (created_at, expires_at) = (crate::kit::now(), WallTime(crate::kit::now().0 + 3_600_000));
    let new = NewApiToken { name: role.to_string(), grant, created_at, expires_at, user: None };
    let (info, secret) = server.store.api_tokens().create(new).unwrap();
    let text = ApiTokenText { id: info.id, secret, server_certificate: CertificateHash([0xab; 32]) };
    format!("authorization: Bearer {text}\r\naccept: text/html\r\n")
}

#[test]
fn an_operator_is_offered_the_changes_of_a_selection_that_operators_make() {
    let server = AdminServer::start();
    server.enrol("kiosk-17");
    let page = ask(&server, "GET /devices", &signed_in(&server, Role::Operator, "/"), "");
    page.shows("<option value=\"tag\"");
    assert!(!page.body.contains("<option value=\"remove\""));
    get(&server, "/devices").shows("<option value=\"remove\"");
}

#[test]
fn people_see_what_their_role_and_group_let_them_see() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    server.done(&["group", "create", "/mine"]);
    let bearer = signed_in(&server, Role::Reader, "/mine");
    let seen = |head: &str, body: &str| {
        ask(&server, head, &format!("{bearer}content-type: application/x-www-form-urlencoded\r\n"), body)
    };
    assert!(!seen("GET /devices", "").body.contains("kiosk-17"));
    for (url, form) in [("/groups", "action=\"/groups\""), ("/devices", "action=\"/selection\"")] {
        assert!(!seen(&format!("GET {url}"), "").body.contains(form), "{url}");
        assert!(get(&server, url).body.contains(form), "{url}");
    }
    assert!(!seen("GET /policies", "").body.contains("/policies/edit"));
    seen("GET /policies/edit", "").shows("This is not for those with the role reader");
    assert_eq!(seen("GET /", "").status, 200, "the overview is there without what concerns the server");
    assert_eq!(seen(&format!("GET /devices/{device}"), "").status, 404);
    assert_eq!(seen(&format!("POST /devices/{device}"), "action=remove&sure=on").status, 404);
    let wrong =
        ask(&server, "GET /tasks?state=done", "accept: text/html\r\nauthorization: Bearer no\r\n", "");
    assert_eq!((wrong.status, wrong.header("location")), (303, "/sign-in?next=%2Ftasks%3Fstate%3Ddone"));
    let from_elsewhere = "accept: text/html\r\nsec-fetch-site: cross-site\r\n";
    let asked = ask(&server, "GET /tasks", from_elsewhere, "");
    assert_eq!(asked.status, 200);
    asked.shows("<a href=\"/tasks\">Go on to /tasks</a>");
}
