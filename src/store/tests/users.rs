//! Users, their one-time links, sessions and API tokens, and when each of them is over.

use crate::fleet::access::Grant;
use crate::machine::wall_clock::Stretch;
use crate::store::testing::{Fleet, all, wait};
use crate::store::{
    GroupChange, LinkLife, MadeLink, NewApiToken, NewUser, OpenIdPerson, Proof,
    SESSION_IDLE_MILLISECONDS_MAX, SESSION_MILLISECONDS_MAX, SESSION_SECRET_BYTES, SESSIONS_OF_USER_MAX,
    Store, StoreError, StoredPassword,
};
use crate::wire::role::Role;
use crate::wire::time::WallTime;

const NOW: WallTime = WallTime(1_700_000_000_000);
const LIFE: LinkLife = LinkLife { created_at: NOW, expires_at: WallTime(NOW.0 + 1_000) };
const PASSWORD: StoredPassword = StoredPassword { salt: [1; 16], hash: [2; 32] };

fn later(milliseconds: u64) -> WallTime {
    WallTime(NOW.0 + milliseconds)
}

fn grant(role: Role, group: &str) -> Grant {
    Grant { role, group: group.to_owned() }
}

fn made(store: &Store, name: &str) -> MadeLink {
    let new = NewUser { name: name.to_owned(), grant: grant(Role::Administrator, "/") };
    store.users().create(new, LIFE).unwrap()
}

fn by_link(made: &MadeLink) -> Proof {
    Proof::Link(made.id, made.secret, PASSWORD)
}

fn signed_in(store: &Store, proof: &Proof, now: WallTime) -> Option<[u8; SESSION_SECRET_BYTES]> {
    store.users().begin_session(proof.clone(), now).unwrap().map(|(_, secret)| secret)
}

fn is_good(store: &Store, secret: &[u8; SESSION_SECRET_BYTES], now: WallTime) -> bool {
    store.users().session(secret, now).unwrap().is_some()
}

#[test]
fn a_link_is_good_once_and_for_its_time_and_sets_the_password() {
    let fleet = Fleet::new(0);
    let anna = made(&fleet.store, "anna");
    let users = fleet.store.users();
    assert!(users.password("anna").unwrap().is_none());
    assert!(users.has_link(anna.id, &anna.secret, later(999)).unwrap());
    assert!(!users.has_link(anna.id, &anna.secret, later(1_000)).unwrap(), "its time is over");
    assert!(!users.has_link(anna.id, &[0; 24], NOW).unwrap());
    assert_eq!(signed_in(&fleet.store, &by_link(&anna), later(1_000)), None);
    assert!(users.password("anna").unwrap().is_none());
    assert!(signed_in(&fleet.store, &by_link(&anna), NOW).is_some());
    assert!(users.password("anna").unwrap().unwrap().1 == PASSWORD);
    assert_eq!(signed_in(&fleet.store, &by_link(&anna), NOW), None, "it was used");
    let user = users.get("anna", NOW).unwrap();
    assert_eq!((user.has_password, user.link_expires_at, user.sessions), (true, None, 1));
    // Another link ends what there was.
    let again = users.renew_link("anna".into(), LIFE).unwrap();
    assert!(users.password("anna").unwrap().is_none());
    assert_eq!(users.get("anna", NOW).unwrap().sessions, 0);
    assert!(!users.has_link(anna.id, &anna.secret, NOW).unwrap());
    assert!(users.has_link(anna.id, &again.secret, NOW).unwrap());
    assert_eq!(
        signed_in(&fleet.store, &Proof::Password(anna.id, PASSWORD), NOW),
        None,
        "that was the old one"
    );
}

#[test]
fn a_session_ends_when_it_is_idle_when_it_is_old_and_when_there_are_many() {
    let fleet = Fleet::new(0);
    let anna = made(&fleet.store, "anna");
    let (store, first) = (&fleet.store, signed_in(&fleet.store, &by_link(&anna), NOW).unwrap());
    let password = Proof::Password(anna.id, PASSWORD);
    assert!(is_good(store, &first, later(SESSION_IDLE_MILLISECONDS_MAX - 1)));
    // That it was used is stored meanwhile: the next write comes behind it.
    let second = signed_in(store, &password, NOW).unwrap();
    assert!(is_good(store, &first, later(SESSION_IDLE_MILLISECONDS_MAX + 1)));
    assert!(!is_good(store, &second, later(SESSION_IDLE_MILLISECONDS_MAX)));
    let mut secrets = vec![signed_in(store, &password, NOW).unwrap()];
    for _ in 1..=SESSIONS_OF_USER_MAX {
        secrets.push(signed_in(store, &password, NOW).unwrap());
    }
    let good: Vec<bool> = secrets.iter().map(|secret| is_good(store, secret, NOW)).collect();
    assert_eq!(good.iter().filter(|good| **good).count() as u64, SESSIONS_OF_USER_MAX);
    assert!(!good[0] && !is_good(store, &first, NOW), "the oldest went");
    let last = secrets[secrets.len() - 1];
    assert!(!is_good(store, &last, later(SESSION_MILLISECONDS_MAX)));
    store.users().end_session(last).unwrap();
    assert!(!is_good(store, &last, NOW));
}

#[test]
fn a_clock_that_was_ahead_makes_no_session_longer() {
    let fleet = Fleet::new(0);
    let anna = made(&fleet.store, "anna");
    let ahead = later(30 * 86_400_000);
    let far = LinkLife { created_at: ahead, expires_at: WallTime(ahead.0 + 1_000) };
    let link = fleet.store.users().renew_link("anna".into(), far).unwrap();
    let proof = Proof::Link(anna.id, link.secret, PASSWORD);
    let secret = signed_in(&fleet.store, &proof, ahead).unwrap();
    let never = Stretch { since: WallTime(0), until: WallTime(0) };
    wait(|done| fleet.devices().correct_tokens(WallTime(NOW.0 - 1), never, NOW, done)).unwrap();
    assert!(is_good(&fleet.store, &secret, NOW));
    assert!(!is_good(&fleet.store, &secret, later(SESSION_MILLISECONDS_MAX)));
}

#[test]
fn what_a_user_has_made_ends_with_their_rights() {
    let fleet = Fleet::new(0);
    let store = &fleet.store;
    store.devices().set_group("/berlin", GroupChange::default()).unwrap();
    let anna = made(store, "anna");
    let secret = signed_in(store, &by_link(&anna), NOW).unwrap();
    let token = |role, group: &str| {
        let (created_at, expires_at) = (NOW, later(1_000_000));
        let (name, grant) = ("x".to_owned(), grant(role, group));
        let new = NewApiToken { name, grant, user: Some(anna.id), created_at, expires_at };
        store.api_tokens().create(new).unwrap()
    };
    let (all_rights, few) = (token(Role::Administrator, "/"), token(Role::Reader, "/berlin"));
    let is_valid = |(token, secret): &(crate::wire::api::ApiToken, [u8; 24])| {
        store.api_tokens().check(token.id, secret, NOW).unwrap().is_some()
    };
    store.users().change("anna".into(), grant(Role::Operator, "/berlin"), NOW).unwrap();
    assert_eq!(store.users().session(&secret, NOW).unwrap().unwrap().grant, grant(Role::Operator, "/berlin"));
    assert_eq!((is_valid(&all_rights), is_valid(&few)), (false, true));
    let refused = store.devices().remove_group("/berlin", true, false, NOW).unwrap_err().to_string();
    assert!(refused.contains("1 API token may something on /berlin"), "{refused}");
    let user = store.users().remove("anna".into(), NOW).unwrap();
    assert_eq!((user.sessions, user.api_tokens), (1, 1));
    assert!(!is_good(store, &secret, NOW) && !is_valid(&few));
    assert_eq!(store.users().remove("anna".into(), NOW), Err(StoreError::NoUser("anna".into())));
    // One of the same name is somebody else.
    let other = made(store, "anna");
    assert!(other.id != anna.id && signed_in(store, &Proof::Password(anna.id, PASSWORD), NOW).is_none());
    assert_eq!(store.users().list("/", &all(), NOW).unwrap().items.len(), 1);
    assert!(store.users().list("/berlin", &all(), NOW).unwrap().items.is_empty());
    store.users().change("anna".into(), grant(Role::Reader, "/berlin"), NOW).unwrap();
    let refused = store.devices().remove_group("/berlin", true, false, NOW).unwrap_err().to_string();
    assert!(refused.contains("1 user may something on /berlin"), "{refused}");
}

#[test]
fn sign_ins_of_programs_are_bounded_and_have_the_users_rights() {
    let fleet = Fleet::new(0);
    let anna = made(&fleet.store, &"ä".repeat(127));
    signed_in(&fleet.store, &by_link(&anna), NOW).unwrap();
    let users = fleet.store.users();
    for _ in 0..20 {
        let proof = Proof::Password(anna.id, PASSWORD);
        let (token, secret) = users.sign_in_token(proof, NOW, later(1_000)).unwrap().unwrap();
        let holder = fleet.store.api_tokens().check(token.id, &secret, NOW).unwrap().unwrap();
        assert_eq!((holder.grant, holder.user), (grant(Role::Administrator, "/"), Some(anna.id)));
        assert!(token.name.starts_with("musterctl of ä"));
    }
    assert_eq!(fleet.store.api_tokens().list("/", &all(), NOW).unwrap().items.len(), 16);
    let wrong = Proof::Password(anna.id, StoredPassword { hash: [3; 32], ..PASSWORD });
    assert!(users.sign_in_token(wrong, NOW, later(1)).unwrap().is_none());
}

#[test]
fn a_person_of_a_provider_is_one_user_whatever_their_name_becomes() {
    let fleet = Fleet::new(0);
    let (store, users, issuer) = (&fleet.store, fleet.store.users(), "https://id.example");
    for name in ["anna", "ben"] {
        let new = NewUser { name: name.to_owned(), grant: grant(Role::Reader, "/") };
        let user = users.create_at_provider(new, issuer.to_owned(), NOW).unwrap();
        assert_eq!((user.issuer.as_deref(), user.subject, user.has_password), (Some(issuer), None, false));
    }
    let carla = made(store, "carla");
    signed_in(store, &by_link(&carla), NOW).unwrap();
    let come = |issuer: &str, subject: &str, name: &str| {
        let [issuer, subject, name] = [issuer, subject, name].map(str::to_owned);
        let begun = users.begin_session(Proof::OpenId(OpenIdPerson { issuer, subject, name }), NOW);
        begun.map(|begun| begun.unwrap().0.name)
    };
    assert_eq!(come(issuer, "1", "anna").unwrap(), "anna");
    assert_eq!(users.get("anna", NOW).unwrap().subject.as_deref(), Some("1"));
    assert!(
        matches!(come(issuer, "2", "anna"), Err(StoreError::AnotherPerson(_))),
        "the name is another's now"
    );
    assert_eq!(come(issuer, "1", "ben").unwrap(), "anna", "they have another name now");
    assert_eq!(users.get("ben", NOW).unwrap().subject, None);
    for (issuer, name) in [("https://other.example", "ben"), (issuer, "nobody"), (issuer, "carla")] {
        assert!(
            matches!(come(issuer, "3", name), Err(StoreError::NoUserOfProvider { .. })),
            "{issuer} {name}"
        );
    }
    assert!(matches!(users.renew_link("ben".into(), LIFE), Err(StoreError::SignsInElsewhere { .. })));
    users.remove("anna".into(), NOW).unwrap();
    assert!(matches!(come(issuer, "1", "anna"), Err(StoreError::NoUserOfProvider { .. })));
    assert_eq!(come(issuer, "1", "ben").unwrap(), "ben");
}
