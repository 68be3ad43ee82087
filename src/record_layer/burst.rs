//! A key for as long as several records are opened or sealed.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::Zeroize as _;

use super::error::{CryptoFailed, OpenError, SealError};
use super::limits::{HEADER_BYTES, SEALED_RECORDS_MAX};
use super::secret::Half;
use super::suite::Suite;

/// One half at work. It holds the half and counts in it, and has no number of its own: whatever becomes of a
/// burst, dropped, forgotten or left by a panic, the half knows every number that was used.
pub(super) struct Burst<'link> {
    suite: Suite,
    half: &'link mut Half,
    /// Made for the first record: a burst that meets no whole record costs nothing.
    cipher: Option<Cipher>,
}

impl<'link> Burst<'link> {
    pub(super) fn new(suite: Suite, half: &'link mut Half) -> Self {
        Self { suite, half, cipher: None }
    }

    /// Opens the half's next record in place: the content type and padding, without the tag.
    pub(super) fn open<'b>(
        &mut self,
        header: [u8; HEADER_BYTES],
        protected: &'b mut [u8],
    ) -> Result<&'b mut [u8], OpenError> {
        let number = self.half.take_number(u64::MAX).ok_or(OpenError::NumbersUsedUp)?;
        let cipher = self.cipher()?;
        let nonce = cipher.nonce(number);
        cipher.key.open_in_place(nonce, Aad::from(header), protected).map_err(|_| OpenError::Forged)
    }

    /// Seals the half's next record in place. The number is used up before anything can be sent under it.
    pub(super) fn seal(&mut self, header: [u8; HEADER_BYTES], inner: &mut [u8]) -> Result<Tag, SealError> {
        let number = self.half.take_number(SEALED_RECORDS_MAX).ok_or(SealError::KeyUsedUp)?;
        let cipher = self.cipher()?;
        let nonce = cipher.nonce(number);
        cipher.key.seal_in_place_separate_tag(nonce, Aad::from(header), inner).map_err(|_| SealError::Crypto)
    }

    /// Goes on under the next generation's key.
    pub(super) fn advance(&mut self) -> Result<(), CryptoFailed> {
        self.cipher = None;
        self.half.advance(self.suite)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.half.sequence()
    }

    fn cipher(&mut self) -> Result<&Cipher, CryptoFailed> {
        match &mut self.cipher {
            Some(cipher) => Ok(cipher),
            none => Ok(none.insert(Cipher::new(self.suite, self.half)?)),
        }
    }
}

/// A key that is ready to be used. The crypto library keeps it on the heap, and wipes it when it is dropped.
struct Cipher {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Cipher {
    fn new(suite: Suite, half: &Half) -> Result<Self, CryptoFailed> {
        let derived = half.secret().traffic_key(suite)?;
        let key = UnboundKey::new(suite.aead(), derived.key()).map_err(|_| CryptoFailed)?;
        Ok(Self { key: LessSafeKey::new(key), iv: *derived.iv() })
    }

    /// The number, padded on its left, XOR the initialization vector (RFC 8446 section 5.3).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        let tail = nonce.iter_mut().skip(NONCE_LEN - size_of::<u64>());
        for (byte, of_number) in tail.zip(number.to_be_bytes()) {
            *byte ^= of_number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}
