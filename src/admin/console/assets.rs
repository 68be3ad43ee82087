//! The console's files: their names change with what is in them, so that browsers may keep them for ever.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};

/// A file that is compiled in.
pub(super) struct Asset {
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    text: &'static str,
}

pub(super) static STYLE: Asset = Asset {
    stem: "console",
    extension: "css",
    content_type: "text/css; charset=utf-8",
    text: include_str!("console.css"),
};

pub(super) static SCRIPT: Asset = Asset {
    stem: "console",
    extension: "js",
    content_type: "text/javascript; charset=utf-8",
    text: include_str!("console.js"),
};

pub(super) static ICON: Asset =
    Asset { stem: "icon", extension: "svg", content_type: "image/svg+xml", text: include_str!("icon.svg") };

impl Asset {
    /// Its name, with a hash of its content (FNV-1a, 64 bits): it need only differ between versions.
    fn name(&self) -> String {
        let hash = self.text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{}-{hash:016x}.{}", self.stem, self.extension)
    }

    pub(super) fn url(&self) -> String {
        format!("/assets/{}", self.name())
    }
}

pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let found = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.name() == name);
    let Some(asset) = found else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [
        (CONTENT_TYPE, asset.content_type),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, asset.text).into_response()
}
