//! Numbers, durations and sizes as annotations and tests spell them: each has one spelling.

use sallyport_core::policy::MAX_DURATION_CEILING_S;

/// Most bytes that a size names: 1 TiB.
const SIZE_MAX: u64 = 1 << 40;

/// Seconds of `90s`, `15m`, `8h` or `7d`: from one second to seven days.
pub(crate) fn duration_s(text: &str) -> Option<u64> {
    let units = [('s', 1_u64), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let seconds = units
        .iter()
        .find_map(|(unit, size)| number(text.strip_suffix(*unit)?)?.checked_mul(*size))?;
    (1..=MAX_DURATION_CEILING_S)
        .contains(&seconds)
        .then_some(seconds)
}

/// Bytes of `64KiB`, `64MiB` or `1GiB`.
pub(super) fn size(argument: &str) -> Option<u64> {
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let bytes = units
        .iter()
        .find_map(|(unit, size)| number(argument.strip_suffix(unit)?)?.checked_mul(*size))?;
    (bytes <= SIZE_MAX).then_some(bytes)
}

/// A whole number in its one spelling: no sign, no space, no leading zero.
pub(super) fn number(text: &str) -> Option<u64> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}
