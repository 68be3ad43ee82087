//! Steps of a rotation of the server's key, on the page of the server: each is asked about first.

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::page::{Answer, Link, Page, Part, see};
use super::said;
use crate::wire::api::{
    CertificateChange, CertificateStage, CertificateStatus, CertificateStep, ErrorDetail,
    READY_PERCENT_DEFAULT,
};

/// Each step: the button's text, the command, and what it means.
fn told(step: CertificateStep) -> (&'static str, &'static str, &'static str) {
    match step {
        CertificateStep::Prepare => (
            "Prepare the next key",
            "prepare",
            "It makes the next key, and devices store its pin with their next syncs. With the recovery key, which is used \
             once and not kept, devices that are away until the former key is retired come back all the same; without it \
             those must be visited.",
        ),
        CertificateStep::Switch => (
            "Switch to the next key",
            "switch",
            "It puts the next key into use. The former one stays pinned, and join tokens that name it are good, until it \
             is retired. It is refused, with their names, when too many devices don't know the next key yet.",
        ),
        CertificateStep::Retire => (
            "Retire the former key",
            "retire",
            "It lets the former key, and a former secret of datagrams, go. A server that is restored from a backup of \
             before the switch is not known to devices after this: they come back by the recovery key.",
        ),
        CertificateStep::RotateSecret => (
            "Draw another secret of datagrams",
            "rotate-secret",
            "The next syncs bring the new keys to the devices. The former secret is heard until the former key is retired.",
        ),
    }
}

/// Buttons for the steps that the stage allows.
pub(super) fn steps(status: &CertificateStatus) -> Part {
    let next = match status.stage {
        CertificateStage::Current => CertificateStep::Prepare,
        CertificateStage::Prepared => CertificateStep::Switch,
        CertificateStage::Switched => CertificateStep::Retire,
    };
    let mut form = Form::post("/server", "");
    // One that was prepared without the recovery key can be prepared again with it.
    let again = (next == CertificateStep::Switch).then_some(CertificateStep::Prepare);
    for step in [Some(next), again, Some(CertificateStep::RotateSecret)].into_iter().flatten() {
        form = form.button(step.name(), format!("{} …", told(step).0));
    }
    form.into()
}

pub(super) async fn change(api: Api, Sent(fields): Sent) -> Answer {
    let step = match fields.parsed::<CertificateStep>("action") {
        Ok(Some(step)) => step,
        Ok(None) => return Err(invalid("choose a step").into()),
        Err(error) => return Err(error.into()),
    };
    if fields.get("sure").is_empty() {
        return sure(step, &fields, None).into();
    }
    match changed(&api, step, &fields).await {
        Ok(_) => Ok(see(&said::with("/server", "rotated", 0))),
        Err(error) => sure(step, &fields, Some(error)).into(),
    }
}

async fn changed(
    api: &Api,
    step: CertificateStep,
    fields: &Fields,
) -> Result<CertificateStatus, ErrorDetail> {
    let change = CertificateChange {
        step,
        recovery_key: fields.some("recovery_key"),
        ready_percent: fields.parsed("share")?,
        force: !fields.get("force").is_empty(),
    };
    api.post("/v1/certificate", &change).await
}

/// Says what a step means, and asks.
fn sure(step: CertificateStep, fields: &Fields, wrong: Option<ErrorDetail>) -> Page {
    let (title, command, text) = told(step);
    let form = Form::post("/server", "").hidden("sure", "on");
    let form = match step {
        CertificateStep::Prepare => form.area(
            "recovery_key",
            "Recovery key (PEM)",
            "",
            "as 'musterd recovery-key create' printed it; may be empty",
        ),
        CertificateStep::Switch | CertificateStep::Retire => {
            let share =
                fields.given("share").map_or_else(|| READY_PERCENT_DEFAULT.to_string(), str::to_owned);
            form.line("share", "Devices that must be ready (%)", &share, "or come back by the recovery key")
                .tick("force", "Do it whatever devices it loses", fields.get("force"))
        }
        CertificateStep::RotateSecret => form,
    };
    Page::new("/server", format!("{title}?"))
        .command(format!("musterctl certificate {command}"))
        .with(Part::text(text))
        .with(form.danger(step.name(), title))
        .with(Part::Links(vec![Link::new("/server", "Back")]))
        .wrong(wrong)
}
