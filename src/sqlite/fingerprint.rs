//! Fingerprints to notice change by.

/// FNV-1a: a fingerprint to notice change by, nothing that must withstand an adversary; the same in every build.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
