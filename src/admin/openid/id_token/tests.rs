//! Tokens as the RFCs print them, and tokens that somebody has made to be taken for one.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;

/// RFC 7515 appendix A.2.
const RSA_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515 appendix A.3.
const EC_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const EC_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 8037 appendix A.4.
const ED_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ED_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn set(of: &[&str]) -> Vec<Key> {
    keys(format!("{{\"keys\":[{}]}}", of.join(",")).as_bytes()).unwrap()
}

#[test]
fn tokens_of_the_rfcs_are_taken_by_their_keys_alone() {
    let all = set(&[RSA_KEY, EC_KEY, ED_KEY]);
    assert_eq!(all.len(), 3);
    let of = [(RSA_TOKEN, RSA_KEY), (EC_TOKEN, EC_KEY), (ED_TOKEN, ED_KEY)];
    for (number, (token, key)) in of.into_iter().enumerate() {
        let taken = payload(token, &all).unwrap();
        assert_eq!(taken, payload(token, &set(&[key])).unwrap());
        assert!(taken.starts_with(if number == 2 { b"Example of" } else { b"{\"iss\":\"joe\"" }));
        let others: Vec<_> = of.iter().map(|(_, key)| *key).filter(|other| *other != key).collect();
        assert_eq!(payload(token, &set(&others)), Err(Refusal::UnknownKey));
        // Any other letter is another token.
        for at in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed == token || payload(&changed, &all).is_err(), "{at}");
        }
    }
}

#[test]
fn keys_for_something_else_are_passed_over() {
    let with = |more: &str| EC_KEY.replacen('{', &format!("{{{more},"), 1);
    for more in [r#""use":"enc""#, r#""alg":"ES384""#, r#""alg":"HS256""#] {
        assert!(set(&[&with(more)]).is_empty(), "{more}");
    }
    assert_eq!(set(&[&with(r#""use":"sig","alg":"ES256","kid":"1""#)]).len(), 1);
    for odd in ["3", "{}", r#"{"kty":"oct","k":"AAAA"}"#, r#"{"kty":"EC","crv":"P-256","x":"!"}"#] {
        assert!(set(&[odd]).is_empty(), "{odd}");
    }
    assert!(keys(b"[]").is_err() && keys(b"").is_err());
    assert_eq!(set(&[EC_KEY; 1_000]).len(), KEYS_MAX);
    // A point that is on no curve verifies nothing.
    let off = EC_KEY.replace("f83O", "f83P");
    assert_eq!(payload(EC_TOKEN, &set(&[&off])), Err(Refusal::UnknownKey));
}

/// Somebody who signs.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn keys(&self, id: &str) -> Vec<Key> {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        set(&[&json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id }).to_string()])
    }

    fn sign(&self, header: &Value) -> String {
        let signed = unsigned(header);
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn unsigned(header: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode("{}"))
}

#[test]
fn a_token_chooses_neither_algorithm_nor_key() {
    let signer = Signer::new();
    let keys = signer.keys("1");
    assert!(payload(&signer.sign(&json!({ "alg": "ES256", "kid": "1" })), &keys).is_ok());
    assert!(payload(&signer.sign(&json!({ "alg": "ES256" })), &keys).is_ok());
    let unknown = payload(&signer.sign(&json!({ "alg": "ES256", "kid": "2" })), &keys);
    assert_eq!(unknown, Err(Refusal::UnknownKey));
    let other = payload(&Signer::new().sign(&json!({ "alg": "ES256", "kid": "1" })), &keys);
    assert_eq!(other, Err(Refusal::Wrong("its signature is not by the key that it names".to_owned())));
    let is_wrong = |token: &str| matches!(payload(token, &keys), Err(Refusal::Wrong(_)));
    for alg in ["none", "None", "HS256", "RS512", "ES384", "", "es256", "ES256 "] {
        assert!(is_wrong(&signer.sign(&json!({ "alg": alg, "kid": "1" }))), "{alg}");
        assert!(is_wrong(&format!("{}.", unsigned(&json!({ "alg": alg })))), "{alg}");
    }
    // The public key as the secret of an HMAC.
    let signed = unsigned(&json!({ "alg": "HS256", "kid": "1" }));
    for secret in [signer.0.public_key().as_ref(), EC_KEY.as_bytes()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        assert!(is_wrong(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))));
    }
    assert!(is_wrong(&signer.sign(&json!({ "alg": "ES256", "crit": ["b64"], "b64": false }))));
    // A key of its own in the header is not looked at.
    let own = Signer::new().sign(&json!({ "alg": "ES256", "jwk": { "kty": "EC" }, "jku": "https://a" }));
    assert_eq!(payload(&own, &keys), Err(Refusal::UnknownKey));
    for odd in ["", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.e30.e30", "ü.ü.ü"] {
        assert!(is_wrong(odd), "{odd}");
    }
}

const NOW: u64 = 1_700_000_000;

fn expected(claim: &'static str, times: [u64; 2]) -> Expected<'static> {
    let times = times.map(|seconds| WallTime(seconds * 1_000));
    Expected { issuer: "https://id.example", client_id: "muster", nonce: "n-0S6_WzA2Mj", claim, times }
}

fn claims(changes: &Value) -> Vec<u8> {
    let mut claims = json!({
        "iss": "https://id.example", "sub": "24400320", "aud": "muster", "nonce": "n-0S6_WzA2Mj",
        "exp": NOW + 300, "iat": NOW, "preferred_username": "anna", "email": "anna@id.example",
        "email_verified": true,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.to_string().into_bytes()
}

fn name(changes: &Value, claim: &'static str) -> Result<String, Refusal> {
    person(&claims(changes), &expected(claim, [NOW, NOW])).map(|person| person.name)
}

#[test]
fn what_a_token_must_say() {
    let by = |changes: Value| name(&changes, "preferred_username");
    let found = person(&claims(&json!({})), &expected("preferred_username", [NOW, NOW])).unwrap();
    let (issuer, subject) = ("https://id.example".to_owned(), "24400320".to_owned());
    assert_eq!(found, OpenIdPerson { issuer, subject, name: "anna".to_owned() });
    for good in [
        json!({ "aud": ["muster"] }),
        json!({ "aud": ["muster", "other"], "azp": "muster" }),
        json!({ "nbf": NOW, "exp": NOW as f64 + 0.5 }),
        json!({ "iat": NOW + 60, "exp": NOW + 61 }),
        json!({ "exp": NOW - 59 }),
    ] {
        assert_eq!(by(good.clone()), Ok("anna".to_owned()), "{good}");
    }
    for bad in [
        json!({ "iss": "https://id.example/" }),
        json!({ "iss": null }),
        json!({ "aud": "other" }),
        json!({ "aud": [] }),
        json!({ "aud": ["muster", "other"] }),
        json!({ "azp": "other" }),
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "nonce": "" }),
        json!({ "exp": NOW - 60 }),
        json!({ "exp": null }),
        json!({ "exp": "2100-01-01" }),
        json!({ "iat": NOW + 62 }),
        json!({ "nbf": NOW + 62 }),
        json!({ "sub": "" }),
        json!({ "sub": "a".repeat(256) }),
        json!({ "sub": 5 }),
        json!({ "preferred_username": null }),
        json!({ "preferred_username": "" }),
        json!({ "preferred_username": ["anna"] }),
        json!({ "preferred_username": "an\u{202e}na" }),
    ] {
        assert!(matches!(by(bad.clone()), Err(Refusal::Wrong(_))), "{bad}");
    }
    let twice = String::from_utf8(claims(&json!({}))).unwrap().replacen('{', r#"{"sub":"1","#, 1);
    assert!(person(twice.as_bytes(), &expected("preferred_username", [NOW, NOW])).is_err());
    assert_eq!(name(&json!({}), "sub"), Ok("24400320".to_owned()));
    assert_eq!(name(&json!({}), "email"), Ok("anna@id.example".to_owned()));
    assert_eq!(name(&json!({ "email_verified": "true" }), "email"), Ok("anna@id.example".to_owned()));
    for unverified in [json!(false), json!(null), json!("false"), json!(1)] {
        assert!(name(&json!({ "email_verified": unverified }), "email").is_err(), "{unverified}");
    }
}

#[test]
fn after_a_step_of_the_clock_either_time_will_do() {
    let good = |times| person(&claims(&json!({})), &expected("preferred_username", times)).is_ok();
    let wrong = NOW + 86_400;
    assert_eq!([[NOW, NOW], [wrong, NOW], [NOW, wrong], [wrong, wrong]].map(good), [true, true, true, false]);
}
