//! Users who sign in over the network, and those who try to without being one.

use std::net::TcpStream;

use super::administration::Scene;
use crate::kit::eventually;
use muster::client::Client;
use muster::wire::api::{AuditQuery, ErrorCode, NewUser, SignIn, UserChange};
use muster::wire::role::Role;
use muster::wire::token::LinkText;

const PASSWORD: &str = "four words make one";

/// The one-time link of a new user.
fn link(scene: &Scene, name: &str, role: Role) -> String {
    let new = NewUser { name: name.into(), role, group: None, openid: false };
    let link = scene.root().create_user(&new).unwrap().link;
    eventually("the port opens", || TcpStream::connect(scene.port).is_ok());
    link
}

/// A user who has set the password.
fn user(scene: &Scene, name: &str, role: Role) {
    let answer =
        sign_in(scene, &format!(r#"{{"link":"{}","password":"{PASSWORD}"}}"#, link(scene, name, role)), "");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

fn ask(scene: &Scene, line: &str, more: &str, body: &str) -> String {
    let length = body.len();
    scene.say(&format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    ))
}

fn sign_in(scene: &Scene, body: &str, more: &str) -> String {
    ask(scene, "POST /v1/sessions", more, body)
}

/// The header that has the cookie of an answer.
fn cookie(answer: &str) -> String {
    let set = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap_or_else(|| panic!("{answer}"));
    assert!(set.ends_with("; Max-Age=604800; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
    format!("cookie: a=b; {}\r\n", set.split(';').next().unwrap())
}

fn by_password(scene: &Scene, name: &str) -> String {
    cookie(&sign_in(scene, &format!(r#"{{"user":"{name}","password":"{PASSWORD}"}}"#), ""))
}

fn code(answer: &str) -> &str {
    &answer[9..12]
}

#[test]
fn somebody_signs_in_with_a_link_and_later_with_the_password() {
    let scene = Scene::new();
    let link = link(&scene, "anna", Role::Operator);
    assert!(link.starts_with(&format!("https://{}/welcome#musterlink1-", scene.port)), "{link}");
    let file = |name: &str, text: &str| {
        let path = scene.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (link_file, password) = (file("link", &link), file("password", &format!("{PASSWORD}\n")));
    let short = scene.ctl(&["login", "--link-file", &link_file, "--password-file", "-"], "short\n");
    assert_eq!(short.code, 2, "{}", short.err);
    assert!(short.err.contains("the password has 5 characters"), "{}", short.err);
    let begun = scene.ctl(&["login", "--link-file", &link_file, "--password-file", &password], "");
    assert_eq!(begun.code, 0, "{}", begun.err);
    assert!(begun.out.contains("operator on /"), "{}", begun.out);
    assert_eq!(scene.ctl(&["device", "list"], "").code, 0);
    let used = scene.ctl(&["login", "--link-file", "-", "--password-file", &password], &link);
    assert!(used.err.contains("has expired or was used"), "{}", used.err);
    let users = scene.server.ctl(&["user", "list"]);
    assert_eq!((&users[0]["name"], &users[0]["has_password"]), (&"anna".into(), &true.into()));
    assert_eq!(users[0]["api_tokens"], 1);
    // Here the server is known, elsewhere it is not.
    let login = ["login", "--user", "anna", "--password-file", &password];
    assert_eq!(scene.ctl(&login, "").code, 0);
    assert_eq!(scene.ctl(&["logout"], "").code, 0);
    let unknown = scene.ctl(&login, "");
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("give --certificate"), "{}", unknown.err);
    let certificate = scene.server.status().certificate_sha256;
    let foreign = format!("{}{}", &certificate[2..], &certificate[..2]);
    let other = scene.ctl(&[&login[..], &["--certificate", &foreign]].concat(), "");
    assert!(other.err.contains("is not the server"), "{}", other.err);
    assert_eq!(scene.ctl(&[&login[..], &["--certificate", &certificate]].concat(), "").code, 0);
    let wrong = scene.ctl(&["login", "--user", "anna"], "something else\n");
    assert!(wrong.err.contains("the name or the password is wrong"), "{}", wrong.err);
    // A new link ends all of it.
    scene.server.ctl(&["user", "passwd", "anna"]);
    assert!(scene.ctl(&["device", "list"], "").err.contains("has expired or was revoked"));
    assert!(scene.ctl(&login, "").err.contains("the name or the password is wrong"));
    let rows = scene.root().audit(AuditQuery::default()).next().unwrap().unwrap();
    let row = |action: &str| rows.iter().find(|row| row.action == action).unwrap();
    assert_eq!(row("POST /v1/sessions/api-token").actor, "unknown");
    let text = format!("{rows:?}");
    assert!(text.contains("anna") && !text.contains("musterlink1-") && !text.contains(PASSWORD));
}

#[test]
fn a_cookie_is_good_for_pages_of_the_server_alone_and_until_it_is_over() {
    let scene = Scene::new();
    user(&scene, "anna", Role::Administrator);
    let first = by_password(&scene, "anna");
    // A cookie that came with the request is never the new one.
    let planted = format!("cookie: __Host-muster={}\r\n", "A".repeat(43));
    let body = format!(r#"{{"user":"anna","password":"{PASSWORD}"}}"#);
    let second = cookie(&sign_in(&scene, &body, &planted));
    assert!(second != first && !second.contains(&"A".repeat(43)));
    assert_eq!(code(&ask(&scene, "GET /v1/session", &planted, "")), "401");
    for wrong in ["cookie: __Host-muster=\r\n", "cookie: __Host-muster=!\r\n", "cookie: __Host-muster\r\n"] {
        assert_eq!(code(&ask(&scene, "GET /v1/session", wrong, "")), "401");
    }
    let who = ask(&scene, "GET /v1/session", &first, "");
    assert!(who.contains(r#""name":"anna","role":"administrator","group":"/","expires_at":"2"#), "{who}");
    // A change needs a page of this server.
    let change = |more: &str| {
        let answer = ask(&scene, "POST /v1/groups", &format!("{first}{more}"), r#"{"path":"/berlin"}"#);
        code(&answer).to_owned()
    };
    for foreign in [
        "",
        "sec-fetch-site: none\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "origin: https://evil.example\r\n",
        "origin: null\r\n",
        "origin: http://x\r\n",
        "sec-fetch-site: same-origin\r\norigin: https://evil.example\r\n",
    ] {
        assert_eq!(change(foreign), "403", "{foreign}");
    }
    assert_eq!(change("sec-fetch-site: same-origin\r\n"), "201");
    assert_eq!(change("origin: https://x\r\n"), "201");
    let rows = scene.root().audit(AuditQuery::default()).next().unwrap().unwrap();
    assert_eq!(rows[0].actor, "user anna");
    // No page of another site signs somebody in, either.
    assert_eq!(code(&sign_in(&scene, &body, "sec-fetch-site: cross-site\r\n")), "403");
    // Another role counts with the next request.
    let reader = UserChange { role: Some(Role::Reader), group: None };
    scene.root().change_user("anna", &reader).unwrap();
    assert_eq!(change("sec-fetch-site: same-origin\r\n"), "403");
    assert_eq!(code(&ask(&scene, "GET /v1/status", &first, "")), "200");
    // One that was stolen is dead when its owner has signed out; others go on.
    let out = ask(&scene, "DELETE /v1/session", &format!("{first}sec-fetch-site: same-origin\r\n"), "");
    assert!(out.contains("set-cookie: __Host-muster=; Max-Age=0; "), "{out}");
    assert_eq!(code(&ask(&scene, "GET /v1/session", &first, "")), "401");
    assert_eq!(code(&ask(&scene, "GET /v1/session", &second, "")), "200");
    scene.root().remove_user("anna").unwrap();
    assert_eq!(code(&ask(&scene, "GET /v1/session", &second, "")), "401");
    assert_eq!(code(&sign_in(&scene, &body, "")), "401");
}

#[test]
fn unknown_users_are_not_told_apart_and_nobody_is_locked_out_for_good() {
    let scene = Scene::new();
    user(&scene, "anna", Role::Reader);
    let cookie = by_password(&scene, "anna");
    link(&scene, "ben", Role::Reader);
    let said = |name: &str| {
        let answer = sign_in(&scene, &format!(r#"{{"user":"{name}","password":"x"}}"#), "");
        answer.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
    };
    let wrong = said("anna");
    assert_eq!(code(&wrong), "401");
    assert_eq!((said("nobody"), said("ben")), (wrong.clone(), wrong));
    // Of many guesses some are looked at, and the rest costs nothing.
    let text: LinkText = LinkText::of_link(&scene.root().renew_user_link("ben").unwrap().link).unwrap();
    let mut client = Client::new(format!("https://{}", scene.port).parse().unwrap()).unwrap();
    client.expect(text.server_certificate);
    let guess = |name: &str| SignIn { user: Some(name.into()), link: None, password: "wrong wrong".into() };
    let codes: Vec<_> =
        (0..200).map(|_| client.create_token_of_user(&guess("anna")).unwrap_err().code()).collect();
    let looked_at = codes.iter().filter(|code| **code == Some(ErrorCode::Unauthenticated)).count();
    assert!((15..60).contains(&looked_at), "{looked_at}");
    assert_eq!(codes.last(), Some(&Some(ErrorCode::Busy)));
    assert_eq!(code(&sign_in(&scene, r#"{"user":"anna","password":"x"}"#, "")), "503");
    // The session goes on, and root gets in.
    assert_eq!(code(&ask(&scene, "GET /v1/session", &cookie, "")), "200");
    assert!(scene.root().renew_user_link("anna").is_ok());
}
