//! Shamir's secret sharing over GF(2^8), byte by byte (A. Shamir, "How to share a secret", 1979).
//!
//! Written here because no library does it without looking secret bytes up in tables, which leaks them
//! through the processor's cache (security class D7); the arithmetic below branches on and indexes by
//! public numbers only. Same field and same points as the `blahaj` crate, with which the tests compare
//! it both ways.
//!
//! INVARIANT: every coefficient but the last is uniformly random, zero included, so that fewer points
//! than the threshold leave every secret equally likely.

use sallyport_core::{
    entropy::Entropy,
    secret::{Secret, SecretBytes},
};
use zeroize::Zeroizing;

/// One point on the polynomials: where, and a value for each byte of the secret.
pub(super) struct Point {
    /// From 1; public.
    pub(super) x: u8,
    /// As many bytes as the secret has.
    pub(super) y: SecretBytes,
}

/// Splits `secret` into points 1 to `shares`, any `threshold` of which recover it.
pub(super) fn split(secret: &[u8], threshold: u8, shares: u8, entropy: &dyn Entropy) -> Vec<Point> {
    let random_terms = usize::from(threshold.saturating_sub(1));
    let mut coefficients = Zeroizing::new(vec![0; random_terms * secret.len()]);
    entropy.fill(&mut coefficients);
    (1..=shares)
        .map(|x| {
            let y = secret
                .iter()
                .enumerate()
                .map(|(place, byte)| {
                    let own = coefficients
                        .iter()
                        .skip(place * random_terms)
                        .take(random_terms);
                    // Horner's rule, the constant term (the secret) last.
                    let sum = own.fold(0, |sum, coefficient| multiply(sum, x) ^ coefficient);
                    if random_terms == 0 {
                        *byte
                    } else {
                        multiply(sum, x) ^ byte
                    }
                })
                .collect();
            Point {
                x,
                y: Secret::new(y),
            }
        })
        .collect()
}

/// The secret that `points` lie on: the value at zero of the polynomial through them (Lagrange). The
/// points must differ in `x`, and none may have `x` = 0.
pub(super) fn recover(points: &[&Point]) -> SecretBytes {
    let length = points
        .iter()
        .map(|point| point.y.expose_secret().len())
        .min()
        .unwrap_or(0);
    let mut secret = vec![0; length];
    for point in points {
        let weight = points
            .iter()
            .filter(|other| other.x != point.x)
            .fold(1, |product, other| {
                multiply(product, multiply(other.x, inverse(other.x ^ point.x)))
            });
        for (sum, byte) in secret.iter_mut().zip(point.y.expose_secret()) {
            *sum ^= multiply(weight, *byte);
        }
    }
    Secret::new(secret)
}

/// The product in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, in the same time for any factors.
fn multiply(left: u8, right: u8) -> u8 {
    let mut shifted = left;
    let mut product = 0;
    for bit in 0..8 {
        // All ones or all zeros instead of a branch.
        product ^= shifted & ((right >> bit) & 1).wrapping_neg();
        shifted = (shifted << 1) ^ (0x1d & (shifted >> 7).wrapping_neg());
    }
    product
}

/// The inverse: the 254th power, because the non-zero elements form a group of order 255.
fn inverse(element: u8) -> u8 {
    let mut power = element;
    let mut product = 1;
    for _ in 1..8 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

#[cfg(test)]
mod tests {
    use blahaj::{Share, Sharks};
    use proptest::prelude::*;

    use super::*;
    use crate::SystemEntropy;

    fn to_blahaj(point: &Point) -> Share {
        let bytes = [&[point.x], point.y.expose_secret().as_slice()].concat();
        Share::try_from(bytes.as_slice()).unwrap()
    }

    fn from_blahaj(share: &Share) -> Point {
        let bytes = Vec::from(share);
        Point {
            x: bytes[0],
            y: Secret::new(bytes[1..].to_vec()),
        }
    }

    #[test]
    fn multiplication_is_that_of_the_field_for_all_factors() {
        // By the schoolbook: multiply as polynomials, then reduce.
        let schoolbook = |left: u8, right: u8| {
            let mut product = (0..8)
                .filter(|bit| right >> bit & 1 == 1)
                .fold(0_u16, |sum, bit| sum ^ (u16::from(left) << bit));
            for bit in (8..16).rev() {
                if product >> bit & 1 == 1 {
                    product ^= 0x11d << (bit - 8);
                }
            }
            u8::try_from(product).unwrap()
        };
        for left in 0..=u8::MAX {
            for right in 0..=u8::MAX {
                assert_eq!(
                    multiply(left, right),
                    schoolbook(left, right),
                    "{left} * {right}"
                );
            }
            assert_eq!(
                multiply(left, inverse(left)),
                u8::from(left != 0),
                "1 / {left}"
            );
        }
    }

    /// VA-1: with one point missing, every value of a byte remains possible, and equally so.
    #[test]
    fn given_one_point_too_few_then_each_of_the_256_values_fits_exactly_one_missing_point() {
        let points = split(&[42], 3, 3, &SystemEntropy);
        let mut values: Vec<u8> = (0..=u8::MAX)
            .map(|y| {
                let guessed = Point {
                    x: 3,
                    y: Secret::new(vec![y]),
                };
                recover(&[&points[0], &points[1], &guessed]).expose_secret()[0]
            })
            .collect();
        values.sort_unstable();
        assert_eq!(values, (0..=u8::MAX).collect::<Vec<_>>());
    }

    proptest! {
        /// VA-1
        #[test]
        fn any_threshold_of_points_recovers_and_one_fewer_does_not(
            secret in prop::collection::vec(any::<u8>(), 32),
            threshold in 1_u8..=8,
            spare in 0_u8..=8,
            order in any::<prop::sample::Index>(),
        ) {
            let points = split(&secret, threshold, threshold + spare, &SystemEntropy);
            let first = order.index(points.len());
            let mut chosen: Vec<&Point> = points.iter().cycle().skip(first).take(threshold.into()).collect();
            prop_assert!(recover(&chosen).expose_secret() == &secret);
            chosen.pop();
            prop_assert!(recover(&chosen).expose_secret() != &secret);
        }

        /// VA-1: an independent implementation reads our shares, and we read its.
        #[test]
        fn agrees_with_blahaj_both_ways(
            secret in prop::collection::vec(any::<u8>(), 32),
            threshold in 1_u8..=8,
        ) {
            let ours = split(&secret, threshold, 10, &SystemEntropy);
            let theirs: Vec<Share> = ours.iter().rev().take(threshold.into()).map(to_blahaj).collect();
            prop_assert_eq!(&Sharks(threshold).recover(&theirs).unwrap(), &secret);

            let theirs: Vec<Share> = Sharks(threshold).dealer(&secret).take(10).collect();
            let ours: Vec<Point> = theirs.iter().rev().take(threshold.into()).map(from_blahaj).collect();
            let ours: Vec<&Point> = ours.iter().collect();
            prop_assert!(recover(&ours).expose_secret() == &secret);
        }
    }
}
