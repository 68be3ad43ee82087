#![no_main]
//! Certificate requests: any bytes are refused, or proved to be signed by their own key.
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use muster::server::identity::{Identity, Wanted};
use muster::wire::id::DeviceId;
use muster::wire::time::WallTime;

const NOW: WallTime = WallTime(1_795_514_400_123);

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("muster-fuzz-{}", std::process::id()));
    let identity = Identity::open_or_create(&directory, &[], NOW).expect("an identity");
    std::fs::remove_dir_all(&directory).expect("the directory that was just made");
    identity
});

fuzz_target!(|bytes: &[u8]| {
    let wanted = Wanted { device: DeviceId(1), counter: 1, life_milliseconds: 60_000 };
    let _ = IDENTITY.issue(bytes, wanted, NOW);
});
