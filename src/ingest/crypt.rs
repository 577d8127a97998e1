//! AES-128-CBC of whole HLS segments (RFC 8216, 5.2), decrypted as the bytes arrive.

use aes::Aes128;
use bytes::{Bytes, BytesMut};
use cbc::Decryptor;
use cbc::cipher::{Block, BlockModeDecrypt, KeyIvInit};

const BLOCK: usize = 16;

/// The encrypted bytes end wrongly: cut short, damaged, or decrypted with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encrypted segment does not end in valid padding")]
pub struct BadEnd;

/// The initialisation vector of a segment that names none: its media sequence number.
pub fn sequence_iv(sequence: u64) -> [u8; 16] {
    u128::from(sequence).to_be_bytes()
}

/// Decrypts one segment.
pub struct SegmentDecryptor {
    cipher: Decryptor<Aes128>,
    /// Not yet decrypted, less than a block.
    rest: BytesMut,
    /// The newest decrypted block: held back, because the last one holds the padding.
    held: Option<[u8; BLOCK]>,
}

impl SegmentDecryptor {
    /// Starts with this key and vector.
    pub fn new(key: &[u8; 16], iv: &[u8; 16]) -> Self {
        Self {
            cipher: Decryptor::new(key.into(), iv.into()),
            rest: BytesMut::new(),
            held: None,
        }
    }

    /// Takes encrypted bytes, cut anywhere; gives what is in the clear by now.
    pub fn push(&mut self, bytes: &[u8]) -> Bytes {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / BLOCK * BLOCK;
        let mut ready = self.rest.split_to(whole);
        for block in ready.chunks_exact_mut(BLOCK) {
            if let Ok(block) = <&mut Block<Decryptor<Aes128>>>::try_from(block) {
                self.cipher.decrypt_block(block);
            }
        }
        let Some(last) = ready.last_chunk::<BLOCK>().copied() else {
            return Bytes::new();
        };
        ready.truncate(whole - BLOCK);
        match self.held.replace(last) {
            None => ready.freeze(),
            Some(before) => {
                let mut clear = BytesMut::with_capacity(whole);
                clear.extend_from_slice(&before);
                clear.extend_from_slice(&ready);
                clear.freeze()
            }
        }
    }

    /// The end: the last bytes without their padding (PKCS#7, RFC 5652, 6.3).
    pub fn finish(self) -> Result<Bytes, BadEnd> {
        let last = self.held.filter(|_| self.rest.is_empty()).ok_or(BadEnd)?;
        let padding = last.last().map_or(0, |n| usize::from(*n));
        let kept = BLOCK.checked_sub(padding).ok_or(BadEnd)?;
        let (data, pad) = last.split_at(kept);
        match !pad.is_empty() && pad.iter().all(|n| usize::from(*n) == padding) {
            true => Ok(Bytes::copy_from_slice(data)),
            false => Err(BadEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn decrypt(
        key: &[u8; 16],
        iv: &[u8; 16],
        bytes: &[u8],
        piece: usize,
    ) -> Result<Vec<u8>, BadEnd> {
        let mut decryptor = SegmentDecryptor::new(key, iv);
        let mut clear = Vec::new();
        for piece in bytes.chunks(piece) {
            clear.extend_from_slice(&decryptor.push(piece));
        }
        clear.extend_from_slice(&decryptor.finish()?);
        Ok(clear)
    }

    /// NIST SP 800-38A, F.2.1 (CBC-AES128), whose four blocks carry no padding.
    #[test]
    fn agrees_with_the_standards_vectors() {
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let cipher = hex(
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
                          73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        );
        let plain = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let mut decryptor = SegmentDecryptor::new(&key, &iv);
        assert_eq!(decryptor.push(&cipher), plain[..48]);
        assert_eq!(decryptor.held.unwrap(), plain[48..]);
        assert_eq!(decryptor.finish(), Err(BadEnd));
    }

    #[test]
    fn cuts_do_not_matter_and_padding_goes() {
        use cbc::cipher::{BlockModeEncrypt, block_padding::Pkcs7};
        let (key, iv) = ([7; 16], sequence_iv(258));
        assert_eq!(iv[14..], [1, 2]);
        for len in [0, 1, 15, 16, 17, 188, 1_000] {
            let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let cipher = cbc::Encryptor::<Aes128>::new((&key).into(), (&iv).into())
                .encrypt_padded_vec::<Pkcs7>(&plain);
            for piece in [1, 7, 16, 100, 5_000] {
                assert_eq!(decrypt(&key, &iv, &cipher, piece).unwrap(), plain);
            }
            let cut = &cipher[..cipher.len() - 1];
            assert_eq!(decrypt(&key, &iv, cut, 64), Err(BadEnd));
        }
        assert_eq!(decrypt(&key, &iv, &[], 1), Err(BadEnd));
    }
}
