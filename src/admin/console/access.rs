//! Access: users, tokens of programs, and tokens with which devices come in.

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::openid::Provider;
use super::page::{Answer, Cell, Link, Page, Part, Table, see};
use super::said;
use crate::fleet::why::shell_word;
use crate::wire::api::device_table::time;
use crate::wire::api::url::{path, with_query};
use crate::wire::api::{
    ApiToken, ApiTokenState, CreatedApiToken, CreatedToken, ErrorCode, ErrorDetail, NewApiToken, NewToken,
    NewUser, Page as ListPage, PageQuery, Role, Session, Token, TokenState, User, UserLink,
};
use crate::wire::units::parse_duration;

pub(super) async fn show(provider: Provider, api: Api, fields: Fields) -> Answer {
    page(&provider, &api, &fields, None).await
}

pub(super) async fn change(provider: Provider, api: Api, Sent(fields): Sent) -> Answer {
    match changed(&api, &fields).await {
        Ok(Done::Made(page)) => page.into(),
        Ok(Done::Saved) => Ok(see(&said::with("/access", "made", 0))),
        Ok(Done::Revoked) => Ok(see(&said::with("/access", "revoked", 0))),
        Ok(Done::Removed) => Ok(see(&said::with("/access", "removed", 0))),
        Err(error) => page(&provider, &api, &fields, Some(error)).await,
    }
}

enum Done {
    /// With a secret, which is shown this once.
    Made(Page),
    /// Without one.
    Saved,
    Revoked,
    Removed,
}

async fn changed(api: &Api, fields: &Fields) -> Result<Done, ErrorDetail> {
    let ttl_seconds = fields
        .some("ttl")
        .map(|text| parse_duration(&text).map(|ttl| ttl.as_secs()))
        .transpose()
        .map_err(invalid)?;
    let group = fields.some("group");
    match fields.get("action") {
        "link" if fields.get("sure").is_empty() => Ok(Done::Made(sure("link", fields.get("name")))),
        "remove-user" if fields.get("sure").is_empty() => {
            Ok(Done::Made(sure("remove-user", fields.get("name"))))
        }
        "join" => {
            let new = NewToken {
                ttl_seconds,
                uses: fields.parsed("uses")?,
                group,
                names: fields.some("names"),
                approval: !fields.get("approval").is_empty(),
            };
            let made: CreatedToken = api.post("/v1/tokens", &new).await?;
            let line = to_paste(&made);
            let until = Cell::when(made.info.expires_at);
            let page = secret("A join token", "musterctl token create", made.token, until);
            Ok(Done::Made(page.with_all(line)))
        }
        "api" => {
            let role = fields.parsed::<Role>("role")?.ok_or_else(|| invalid("choose a role"))?;
            let new = NewApiToken { name: fields.get("name").trim().to_owned(), role, group, ttl_seconds };
            let made: CreatedApiToken = api.post("/v1/api-tokens", &new).await?;
            let command = format!("musterctl api-token create {} --role {role}", shell_word(&new.name));
            Ok(Done::Made(secret("An API token", &command, made.token, Cell::when(made.info.expires_at))))
        }
        "user" => {
            let role = fields.parsed::<Role>("role")?.ok_or_else(|| invalid("choose a role"))?;
            let openid = !fields.get("openid").is_empty();
            let new = NewUser { name: fields.get("name").trim().to_owned(), role, group, openid };
            let made: UserLink = api.post("/v1/users", &new).await?;
            if openid {
                return Ok(Done::Saved);
            }
            let command = format!("musterctl user create {} --role {role}", shell_word(&new.name));
            Ok(Done::Made(one_time_link(&command, made)))
        }
        "link" => {
            let name = fields.get("name");
            let made: UserLink = api.post(&format!("{}/link", path("/v1/users", name)), &()).await?;
            Ok(Done::Made(one_time_link(&format!("musterctl user passwd {}", shell_word(name)), made)))
        }
        "remove-user" => {
            let _: User = api.delete(&path("/v1/users", fields.get("name"))).await?;
            Ok(Done::Removed)
        }
        "revoke-join" => {
            let _: Token = api.delete(&path("/v1/tokens", fields.get("id"))).await?;
            Ok(Done::Revoked)
        }
        "revoke-api" => {
            let _: ApiToken = api.delete(&path("/v1/api-tokens", fields.get("id"))).await?;
            Ok(Done::Revoked)
        }
        _ => Err(invalid("there is no such action")),
    }
}

fn secret(title: &str, command: &str, token: String, until: Cell) -> Page {
    Page::new("/access", title)
        .command(command)
        .with(Part::text("It is shown this once:"))
        .with(Part::Written(token))
        .with(Part::Facts(vec![("Good until", until)]))
}

/// The line that installs and enrols a device with a token.
pub(super) fn to_paste(made: &CreatedToken) -> Vec<Part> {
    match (&made.install, &made.install_hint) {
        (Some(line), _) => vec![
            Part::heading("On a device that has no agent yet"),
            Part::text("Paste this into a shell of root there: it installs the agent and enrols it."),
            Part::ToCopy(line.clone()),
        ],
        (None, hint) => hint.iter().map(|hint| Part::text(hint.as_str())).collect(),
    }
}

/// Asks before something of a user ends.
fn sure(action: &'static str, name: &str) -> Page {
    let (what, command) = match action {
        "link" => ("Another one-time link ends the password, the sessions and the API tokens", "passwd"),
        _ => ("To remove the user ends the sessions and the API tokens", "remove"),
    };
    let form = Form::post("/access", "").hidden("name", name).hidden("sure", "on");
    Page::new("/access", format!("User {name}"))
        .command(format!("musterctl user {command} {}", shell_word(name)))
        .with(Part::text(format!("{what} of {name}.")))
        .with(form.danger(action, "Go on"))
        .with(Part::Links(vec![Link::new("/access", "Back")]))
}

fn one_time_link(command: &str, made: UserLink) -> Page {
    let until = made.info.link_expires_at.map_or_else(|| Cell::text(""), Cell::when);
    secret(&format!("A one-time link for {}", made.info.name), command, made.link, until)
}

async fn page(provider: &Provider, api: &Api, fields: &Fields, wrong: Option<ErrorDetail>) -> Answer {
    let of = |list, name| with_query(list, &PageQuery { limit: None, cursor: fields.some(name) });
    let (users, tokens, join) =
        (of("/v1/users", "users"), of("/v1/api-tokens", "api"), of("/v1/tokens", "join"));
    let (session, users, tokens, join) = tokio::join!(
        api.get::<Session>("/v1/session"),
        api.get::<ListPage<User>>(&users),
        api.get::<ListPage<ApiToken>>(&tokens),
        api.get::<ListPage<Token>>(&join),
    );
    let page = Page::new("/access", "Access")
        .command("musterctl user list")
        .said(fields)
        .with(Part::Facts(you(session?)));
    match (users, tokens, join) {
        (Ok(users), Ok(tokens), Ok(join)) => page
            .with(Part::heading("Users"))
            .with(user_table(users))
            .with(user_form(fields, provider.is_some()))
            .with(Part::heading("API tokens: with which programs sign in"))
            .with(api_table(tokens))
            .with(api_form(fields))
            .with(Part::heading("Join tokens: with which devices come in"))
            .with(join_table(join))
            .with(join_form(fields)),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) if error.code == ErrorCode::Forbidden => {
            page.with(Part::text("Users and tokens are for administrators to see."))
        }
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => return Err(error.into()),
    }
    .wrong(wrong)
    .into()
}

/// The one who looks at the page.
fn you(session: Session) -> Vec<(&'static str, Cell)> {
    let until = session.expires_at.map_or_else(|| Cell::text(""), Cell::when);
    vec![
        ("You are", Cell::text(session.name)),
        ("Role", Cell::text(session.role.to_string())),
        ("Group", Cell::text(session.group)),
        ("Session ends", until),
    ]
}

fn user_table(list: ListPage<User>) -> Table {
    let button = |action: &str, name: &str, text| {
        Cell::Button("/access".into(), vec![("action", action.to_owned()), ("name", name.to_owned())], text)
    };
    let rows = list.items.into_iter().map(|user| {
        let state = match (user.has_password, user.link_expires_at) {
            _ if user.subject.is_some() => Cell::State("good", "signs in with OpenID".into()),
            _ if user.issuer.is_some() => Cell::State("warn", "OpenID, not yet".into()),
            (true, _) => Cell::State("good", "has a password".into()),
            (false, Some(at)) => Cell::State("warn", format!("has a link until {}", time(at))),
            (false, None) => Cell::State("bad", "can't sign in".into()),
        };
        let link = match user.issuer {
            None => button("link", &user.name, "New link"),
            Some(_) => Cell::text(""),
        };
        [
            Cell::text(&user.name),
            state,
            Cell::text(user.role.to_string()),
            Cell::text(user.group),
            Cell::Number(user.sessions),
            link,
            button("remove-user", &user.name, "Remove"),
        ]
    });
    let heads = ["Name", "State", "Role", "Group", "Sessions", "Password", "Remove"];
    let next = list.next_cursor.map(|cursor| with_query("/access", &serde_json::json!({ "users": cursor })));
    Table::new("Users", heads, "There is no user.").rows(rows).next(next)
}

fn user_form(fields: &Fields, has_provider: bool) -> Part {
    let value = |name: &str| if fields.get("action") == "user" { fields.get(name) } else { "" }.to_owned();
    let form = Form::post("/access", "Make a user")
        .line("name", "Name", &value("name"), "to sign in with, and as the audit names them")
        .choice("role", "Role", &value("role"), Role::ALL.map(|role| (role.name(), role.name())))
        .line("group", "Group", &value("group"), "with those below it; empty: /");
    let form = match has_provider {
        true => form.tick("openid", "Signs in with OpenID Connect, without a password", &value("openid")),
        false => form,
    };
    Part::Folded("Make a user".into(), vec![form.button("user", "Make").into()])
}

fn revoke(action: &str, id: &impl ToString, is_valid: bool) -> Cell {
    if !is_valid {
        return Cell::text("");
    }
    Cell::Button("/access".into(), vec![("action", action.to_owned()), ("id", id.to_string())], "Revoke")
}

fn state(is_valid: bool, word: &str) -> Cell {
    Cell::State(if is_valid { "good" } else { "" }, word.to_owned())
}

fn join_table(list: ListPage<Token>) -> Table {
    let rows = list.items.into_iter().map(|token| {
        let is_valid = token.state == TokenState::Valid;
        let of = token.device_name.map(|name| format!("takes over {name}"));
        let approval = if token.approval { " (with approval)" } else { "" };
        [
            Cell::Code(token.id.to_string()),
            state(is_valid, token.state.name()),
            Cell::text(token.group),
            Cell::text(format!("{} of {}{approval}", token.used, token.uses)),
            Cell::text(of.or(token.names).unwrap_or_default()),
            Cell::when(token.expires_at),
            revoke("revoke-join", &token.id, is_valid),
        ]
    });
    let heads = ["Id", "State", "Group", "Used", "For the names", "Until", "Revoke"];
    let next = list.next_cursor.map(|cursor| with_query("/access", &serde_json::json!({ "join": cursor })));
    Table::new("Join tokens", heads, "There is no join token.").rows(rows).next(next)
}

fn api_table(list: ListPage<ApiToken>) -> Table {
    let rows = list.items.into_iter().map(|token| {
        let is_valid = token.state == ApiTokenState::Valid;
        [
            Cell::text(token.name),
            state(is_valid, token.state.name()),
            Cell::text(token.role.to_string()),
            Cell::text(token.group),
            Cell::when(token.expires_at),
            Cell::Code(token.id.to_string()),
            revoke("revoke-api", &token.id, is_valid),
        ]
    });
    let heads = ["Name", "State", "Role", "Group", "Until", "Id", "Revoke"];
    let next = list.next_cursor.map(|cursor| with_query("/access", &serde_json::json!({ "api": cursor })));
    Table::new("API tokens", heads, "There is no API token.").rows(rows).next(next)
}

fn join_form(fields: &Fields) -> Part {
    let value = |name: &str| if fields.get("action") == "join" { fields.get(name) } else { "" }.to_owned();
    let form = Form::post("/access", "Make a join token")
        .line("group", "Group", &value("group"), "of the devices; empty: /")
        .line("uses", "Devices", &value("uses"), "how many may come in with it; empty: 1")
        .line("ttl", "Good for", &value("ttl"), "such as 1h, which it is when empty")
        .line("names", "Names", &value("names"), "such as kiosk-*; empty: any")
        .tick("approval", "Each waits for approval", &value("approval"))
        .button("join", "Make");
    Part::Folded("Make a join token".into(), vec![form.into()])
}

fn api_form(fields: &Fields) -> Part {
    let value = |name: &str| if fields.get("action") == "api" { fields.get(name) } else { "" }.to_owned();
    let form = Form::post("/access", "Make an API token")
        .line("name", "Name", &value("name"), "the one who gets it, as the audit names them")
        .choice("role", "Role", &value("role"), Role::ALL.map(|role| (role.name(), role.name())))
        .line("group", "Group", &value("group"), "with those below it; empty: /")
        .line("ttl", "Good for", &value("ttl"), "such as 8h; empty: 90 days")
        .button("api", "Make");
    Part::Folded("Make an API token".into(), vec![form.into()])
}
