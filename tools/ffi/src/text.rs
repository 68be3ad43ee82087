//! Texts and lists of the program.

use std::slice;

/// `MusterText` of the header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MusterText {
    pub(crate) bytes: *const libc::c_char,
    pub(crate) length: usize,
}

impl MusterText {
    /// A view of a text of this side.
    pub(crate) fn of(text: &str) -> Self {
        Self { bytes: text.as_ptr().cast(), length: text.len() }
    }

    /// # Safety
    /// There are as many bytes as it says.
    pub(crate) unsafe fn to_bytes(self) -> Vec<u8> {
        // SAFETY: the caller's word.
        unsafe { list(self.bytes.cast::<u8>(), self.length) }.to_vec()
    }

    /// # Safety
    /// There are as many bytes as it says.
    pub(crate) unsafe fn to_text(self) -> Result<String, String> {
        // SAFETY: the caller's word.
        let bytes = unsafe { self.to_bytes() };
        String::from_utf8(bytes).map_err(|error| format!("a text is not UTF-8: {error}"))
    }
}

/// A list of the program; null is an empty one.
///
/// # Safety
/// It has as many entries as it says, for as long as the result is used.
pub(crate) unsafe fn list<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's word.
    unsafe { slice::from_raw_parts(first, count) }
}

/// Copies a text into a buffer of the program, as far as there is room. Its whole length.
///
/// # Safety
/// The buffer has as many bytes as it says, or is null.
pub(crate) unsafe fn copy_out(text: &str, buffer: *mut libc::c_char, size: usize) -> usize {
    if !buffer.is_null() {
        let length = text.len().min(size);
        // SAFETY: the caller's word; a buffer of the program is no text of this side.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, length) };
    }
    text.len()
}
