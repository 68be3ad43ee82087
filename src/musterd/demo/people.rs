//! The steps in which people come: one who may see the demo's group, and a link for the one who watches.

use std::time::Instant;

use crate::client::{Client, ClientError};
use crate::wire::api::{DeviceQuery, NewUser, SignIn, UserLink};
use crate::wire::role::Role;
use crate::wire::token::LinkText;

use super::process::wait_for;
use super::steps::{DEVICE, Demo, GROUP};
use super::{Failure, shown};

/// A password that nobody needs to know: the server and the user go with the demo.
const PASSWORD: &str = "the demo of a fleet";

impl Demo {
    /// A reader signs in over the network with a one-time link, sees the device, and may not change it.
    pub(super) fn sign_in_over_the_network(&mut self) -> Result<(), Failure> {
        let made = self.invite("reader", Role::Reader, GROUP)?;
        let wrong = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", made.link));
        let (address, _) = made.link.split_once("/welcome#").ok_or_else(|| wrong(&"it leads nowhere"))?;
        let started = Instant::now();
        let mut reader = Client::new(address.parse().map_err(|error| wrong(&error))?)?;
        reader.expect(LinkText::of_link(&made.link).map_err(|error| wrong(&error))?.server_certificate);
        let proof = SignIn { user: None, link: Some(made.link.clone()), password: PASSWORD.to_owned() };
        // The port opens with the first user.
        let signed_in = wait_for("the administrators' port", || match reader.create_token_of_user(&proof) {
            Err(ClientError::NotRunning { .. }) => Ok(None),
            answered => Ok(Some(answered?)),
        })?;
        let took = started.elapsed();
        reader.sign_in(&signed_in.token.parse().map_err(|error| wrong(&error))?);
        let seen = reader.devices(DeviceQuery::default()).collect::<Result<Vec<_>, _>>()?.concat();
        if !matches!(&seen[..], [only] if only.name == DEVICE) {
            return Err(Failure::new(format!("the reader sees {} devices, not {DEVICE} alone", seen.len())));
        }
        let Err(refusal) = reader.remove_device(DEVICE) else {
            return Err(Failure::new("a reader could remove a device"));
        };
        self.tell(
            "users",
            &format!(
                "a reader of {GROUP} set a password with a one-time link, over TLS, and sees the device"
            ),
            &[format!("{} with the password's hash", shown(took))],
        );
        self.quote("the reader removes it", &refusal.to_string());
        Ok(())
    }

    /// A one-time link to the console.
    pub(super) fn invite(&mut self, name: &str, role: Role, group: &str) -> Result<UserLink, Failure> {
        Ok(self.client.create_user(&NewUser {
            name: name.to_owned(),
            role,
            group: Some(group.to_owned()),
            openid: false,
        })?)
    }
}
