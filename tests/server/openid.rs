//! Users who sign in at a provider of OpenID Connect, and those who pretend to come from there.

use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::administration::Scene;
use crate::kit::eventually;
use crate::kit::provider::{CLIENT, Provider, SECRET, Signed, fields};
use muster::wire::api::{AuditQuery, AuditRecord};
use serde_json::{Value, json};

/// A server, and a provider that it knows.
struct Site {
    scene: Scene,
    provider: Provider,
}

/// A browser that was sent to the provider.
struct Begun {
    url: String,
    cookie: String,
}

impl Site {
    /// With a user `anna` who signs in there.
    fn new(has_secret: bool) -> Self {
        let mut provider = None;
        let scene = Scene::with(|directory| {
            let started = provider.insert(Provider::start(directory, has_secret));
            let secret = write_secret(directory, SECRET);
            let secret =
                if has_secret { format!("client_secret_file = {secret:?}\n") } else { String::new() };
            format!(
                "[admin.openid]\nname = \"Example\"\nissuer = \"{}\"\naddress = \"https://muster.example.org\"\n\
                 client_id = \"{CLIENT}\"\nca = {:?}\n{secret}",
                started.issuer,
                directory.join("ca.pem"),
            )
        });
        let site = Self { scene, provider: provider.unwrap() };
        site.ctl(&["user", "create", "anna", "--role", "operator", "--openid"]);
        eventually("the port opens", || TcpStream::connect(site.scene.port).is_ok());
        site
    }

    fn ctl(&self, arguments: &[&str]) -> Value {
        self.scene.server.ctl(arguments)
    }

    fn get(&self, url: &str, more: &str) -> String {
        self.scene.say(&format!(
            "GET {url} HTTP/1.1\r\nhost: muster.example.org\r\naccept: text/html\r\nconnection: close\r\n{more}\r\n"
        ))
    }

    fn begin(&self) -> Begun {
        let answer = self.get("/openid/start?next=%2Fdevices%3Fwhere%3Da", "");
        assert_eq!(code(&answer), "303", "{answer}");
        let set = header(&answer, "set-cookie");
        assert!(set.ends_with("; Max-Age=600; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
        Begun { url: header(&answer, "location").to_owned(), cookie: cookie(set) }
    }

    /// The browser comes back, first from the provider and then by the page that it gets.
    fn come_back(&self, query: &str, cookie: &str) -> String {
        let page = self.get(&format!("/openid/callback?{query}"), "sec-fetch-site: cross-site\r\n");
        assert_eq!(code(&page), "200", "{page}");
        let next = header(&page, "refresh").strip_prefix("0; url=").unwrap();
        self.get(next, &format!("sec-fetch-site: same-origin\r\n{cookie}"))
    }

    fn sign_in(&self) -> String {
        let begun = self.begin();
        self.come_back(&self.provider.agree(&begun.url), &begun.cookie)
    }

    /// One that is refused, in these words.
    #[track_caller]
    fn refused(&self, why: &str) {
        shows(&self.sign_in(), why);
    }

    fn rows(&self) -> Vec<AuditRecord> {
        let rows = self.scene.root().audit(AuditQuery::default()).next().unwrap().unwrap();
        rows.into_iter().filter(|row| row.action == "POST /v1/sessions/openid").collect()
    }
}

/// A credential of the server's unit, as systemd gives it.
fn write_secret(directory: &Path, text: &str) -> PathBuf {
    let credentials = directory.join("credentials");
    std::fs::create_dir_all(&credentials).unwrap();
    let (secret, new) = (credentials.join("secret"), credentials.join("new"));
    std::fs::write(&new, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(0o400)).unwrap();
    std::fs::rename(new, &secret).unwrap();
    secret
}

fn code(answer: &str) -> &str {
    &answer[9..12]
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name}: {answer}"))
}

fn cookie(set: &str) -> String {
    format!("cookie: a=b; {}\r\n", set.split(';').next().unwrap())
}

/// A page that says why nobody is signed in.
#[track_caller]
fn shows(answer: &str, why: &str) {
    assert_eq!(code(answer), "403", "{answer}");
    assert!(answer.contains(why) && answer.contains("role=\"alert\""), "without {why}: {answer}");
    assert!(!answer.contains("set-cookie"), "{answer}");
}

#[test]
fn somebody_signs_in_and_is_the_user_from_then_on() {
    let site = Site::new(true);
    let made = &site.ctl(&["user", "list"])[0];
    assert_eq!((&made["issuer"], &made["subject"]), (&json!(site.provider.issuer), &Value::Null));
    let page = site.get("/sign-in?next=%2Fdevices", "");
    let link = "href=\"https://muster.example.org/openid/start?next=%2Fdevices\">Sign in with Example</a>";
    assert!(page.contains(link), "{page}");
    let begun = site.begin();
    let asked = fields(begun.url.split_once('?').unwrap().1);
    assert_eq!(asked["redirect_uri"], "https://muster.example.org/openid/callback");
    let query = site.provider.agree(&begun.url);
    let answer = site.come_back(&query, &begun.cookie);
    assert_eq!((code(&answer), header(&answer, "location")), ("303", "/devices?where=a"));
    let set = header(&answer, "set-cookie");
    assert!(set.starts_with("__Host-muster=") && set.ends_with("; HttpOnly; SameSite=Strict"), "{set}");
    assert!(answer.contains("set-cookie: __Host-muster-openid=; Max-Age=0;"), "{answer}");
    let session = cookie(set);
    let who = site.get("/v1/session", &session);
    assert!(who.contains(r#""name":"anna","role":"operator""#), "{who}");
    // It is written down as whom they were let in, and none of the secrets.
    let row = &site.rows()[0];
    let person = json!({ "openid": site.provider.issuer, "subject": "248289761001", "name": "anna" });
    assert_eq!(row.after, Some(person));
    assert_eq!(row.outcome, "done");
    // The same answer once more, with and without the browser.
    shows(&site.come_back(&query, &begun.cookie), "begin again");
    assert_eq!(site.provider.state().asked.iter().filter(|path| *path == "/token").count(), 1);

    // A name that is given to another person leads nowhere; a person with another name stays who they are.
    site.ctl(&["user", "create", "ben", "--role", "administrator", "--openid"]);
    site.provider.state().name = "ben".to_owned();
    let answer = site.sign_in();
    let who = site.get("/v1/session", &cookie(header(&answer, "set-cookie")));
    assert!(who.contains(r#""name":"anna""#), "{who}");
    (site.provider.state().subject, site.provider.state().name) = ("2".to_owned(), "anna".to_owned());
    site.refused("another person has signed in as");
    site.provider.state().name = "mallory".to_owned();
    site.refused("is no user here who signs in there");
    let outcome = &site.rows()[0].outcome;
    assert!(outcome.starts_with("unauthenticated: 'mallory', as https://localhost"), "{outcome}");
    assert_eq!(site.ctl(&["user", "list"])[1]["subject"], Value::Null);

    // There is no password to be set, and removing the user ends what there is.
    let refused = site.scene.root().renew_user_link("anna").unwrap_err().to_string();
    assert!(refused.contains("has no password"), "{refused}");
    site.scene.root().remove_user("anna").unwrap();
    assert_eq!(code(&site.get("/v1/session", &session)), "401");
}

#[test]
fn the_secret_is_a_credential_of_the_unit_and_read_for_each_sign_in() {
    let site = Site::new(true);
    let (directory, server) = (site.scene.directory.path(), &site.scene.server);
    let refused = |why: &str| {
        let answer = site.sign_in();
        assert!(code(&answer) == "503" && !answer.contains("set-cookie"), "{answer}");
        assert!(!answer.contains("credentials"), "strangers hear nothing of it: {answer}");
        assert!(server.said().contains(why), "without {why}: {}", server.said());
    };
    assert_eq!(code(&site.sign_in()), "303");
    write_secret(directory, "another");
    refused("invalid_client");
    let secret = write_secret(directory, SECRET);
    server.hang_up();
    eventually("it is reloaded", || server.said().contains("configuration read again"));
    assert_eq!(code(&site.sign_in()), "303");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o444)).unwrap();
    refused("run 'chmod 4");
    std::fs::remove_file(&secret).unwrap();
    refused("No such file");
    // One that is renewed with the unit's restart alone is good again as well.
    write_secret(directory, SECRET);
    assert_eq!(code(&site.sign_in()), "303");
}

#[test]
fn an_answer_is_good_for_the_browser_that_has_begun_alone() {
    let site = Site::new(false);
    let (mine, theirs) = (site.begin(), site.begin());
    // Somebody has another person come with an answer of their own, to be signed in as them.
    shows(&site.come_back(&site.provider.agree(&theirs.url), &mine.cookie), "in another browser");
    shows(&site.come_back(&site.provider.agree(&mine.url), ""), "in another browser");
    let begun = site.begin();
    let query = site.provider.agree(&begun.url);
    let finish = format!("/openid/finish?{query}");
    let from_elsewhere = site.get(&finish, &format!("sec-fetch-site: cross-site\r\n{}", begun.cookie));
    assert!(!from_elsewhere.contains("set-cookie"), "{from_elsewhere}");
    for (query, why) in [
        ("state=x&code=y".to_owned(), "in another browser"),
        (String::new(), "in another browser"),
        (format!("{query}&error=access_denied"), "access_denied"),
    ] {
        shows(&site.come_back(&query, &begun.cookie), why);
    }
    for (from, to, why) in [
        ("localhost", "elsewhere", "another provider"),
        ("&iss=", "&x=", "another provider"),
        ("&code=", "&x=", "has no code"),
        ("&code=", "&error=%3Cscript%3E&x=", "has no code"),
    ] {
        let begun = site.begin();
        let query = site.provider.agree(&begun.url).replace(from, to);
        shows(&site.come_back(&query, &begun.cookie), why);
    }
    // A code that is another's is none to the provider: its secret of PKCE is.
    let (one, other) = (site.begin(), site.begin());
    let of = |begun: &Begun| fields(&site.provider.agree(&begun.url));
    let (one_fields, other_fields) = (of(&one), of(&other));
    let query = site.provider.agree(&one.url).replace(&one_fields["code"], &other_fields["code"]);
    let answer = site.come_back(&query, &one.cookie);
    assert!(code(&answer) == "503" && answer.contains("Example can"), "{answer}");
    assert_eq!(code(&site.sign_in()), "303", "a public client has no secret");
}

#[test]
fn a_token_that_is_not_what_it_must_be_lets_nobody_in() {
    let site = Site::new(true);
    let hour_ago = muster::reactor::Clock::new().now().wall.0 / 1_000 - 3_600;
    for (claims, why) in [
        (json!({ "nonce": "another" }), "of another sign-in"),
        (json!({ "aud": "another" }), "for another client"),
        (json!({ "iss": "https://another.example" }), "another issuer"),
        (json!({ "exp": hour_ago }), "its time is over"),
        (json!({ "preferred_username": Value::Null }), "preferred_username"),
    ] {
        site.provider.state().claims = claims;
        site.refused(why);
    }
    site.provider.state().claims = json!({});
    for (header, signed, why) in [
        (json!({ "alg": "none" }), Signed::Not, "not with RS256, ES256 or EdDSA"),
        (json!({ "alg": "HS256" }), Signed::ByPublicKey, "not with RS256, ES256 or EdDSA"),
        (json!({}), Signed::Not, "its signature is not"),
        (json!({}), Signed::ByAnotherKey, "its signature is not"),
    ] {
        (site.provider.state().header, site.provider.state().signed) = (header, signed);
        site.refused(why);
    }
    assert_eq!(site.rows().len(), 9, "each refusal has its row");
    assert_eq!(site.ctl(&["user", "list"])[0]["subject"], Value::Null);
    // Another key is fetched when it is met; one that is not published is not looked for again and again.
    site.provider.state().signed = Signed::Well;
    site.provider.state().header = json!({});
    site.provider.rotate();
    assert_eq!(code(&site.sign_in()), "303");
    site.provider.state().header = json!({ "kid": "3" });
    for _ in 0..3 {
        site.refused("with a key that it does not publish");
    }
    let fetched = site.provider.state().asked.iter().filter(|path| *path == "/keys").count();
    assert_eq!(fetched, 2);
}

#[test]
fn a_provider_that_is_down_or_a_flood_keeps_nobody_from_a_password() {
    let site = Site::new(true);
    site.provider.state().is_down = true;
    let answer = site.get("/openid/start", "");
    assert_eq!(code(&answer), "503", "{answer}");
    let told = "Example can&#39;t be asked at the moment: sign in with a password, or try again later";
    assert!(answer.contains(told) && answer.contains("name=\"password\""), "{answer}");
    let link = site.ctl(&["user", "create", "ben", "--role", "reader"])["link"].as_str().unwrap().to_owned();
    let body = format!(r#"{{"link":"{link}","password":"four words make one"}}"#);
    let length = body.len();
    let answer = site.scene.say(&format!(
        "POST /v1/sessions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    assert_eq!(code(&answer), "201", "{answer}");
    // The failure is told again for a while; then it is up again.
    site.provider.state().is_down = false;
    eventually("it is asked again", || code(&site.get("/openid/start", "")) == "303");
    let first = site.begin();
    for _ in 0..16 {
        site.begin();
    }
    shows(&site.come_back(&site.provider.agree(&first.url), &first.cookie), "begin again");
    assert_eq!(code(&site.sign_in()), "303", "the newest of an address have its places");
    site.provider.state().is_down = true;
    let answer = site.sign_in();
    assert!(code(&answer) == "503" && answer.contains(told), "{answer}");
}
