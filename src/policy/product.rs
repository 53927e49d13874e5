//! The only multiplication: integers alone, exact, total.

/// `n × factor` to the nearest integer, half up; at most `u64::MAX`. The factor is not negative.
#[inline(always)]
pub(crate) const fn product(n: u64, factor: f64) -> u64 {
    cut(n, factor, 1)
}

/// The same to the integer below.
#[inline(always)]
pub(crate) const fn product_below(n: u64, factor: f64) -> u64 {
    cut(n, factor, 0)
}

/// The product, to which so many halves are added before its fraction is cut off.
///
/// A float is an integer times a power of two, so this is one multiplication, whose result 128 bits
/// hold, and one shift of what goes in or comes out: no drift, and the same on every platform.
#[inline(always)]
const fn cut(n: u64, factor: f64, halves: u64) -> u64 {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const BIAS: u32 = 1023;
    // The significand counts from 1 to 2 in these.
    const POINT: u32 = 62;

    let bits = factor.to_bits();
    let significand = (bits << (POINT + 1 - FRACTION_BITS) | 1 << (POINT + 1)) >> 1;
    let exponent = (bits >> FRACTION_BITS) as u32;
    match (exponent.checked_sub(BIAS), BIAS.checked_sub(exponent)) {
        (Some(up), _) => match shifted(n, up) {
            Some(n) => {
                let product = n as u128 * significand as u128;
                fit((product + ((halves as u128) << (POINT - 1))) >> POINT)
            }
            None => u64::MAX,
        },
        (None, Some(down @ ..=65)) => {
            let twice = (n as u128 * significand as u128) >> (POINT - 1 + down);
            ((twice + halves as u128) >> 1) as u64
        }
        // Less than half of one.
        _ => 0,
    }
}

/// `n` shifted up by so many bits, if it fits.
#[inline(always)]
const fn shifted(n: u64, up: u32) -> Option<u64> {
    match up {
        0..64 if n << up >> up == n => Some(n << up),
        _ if n == 0 => Some(0),
        _ => None,
    }
}

/// `number`, or the largest that fits.
#[inline(always)]
const fn fit(number: u128) -> u64 {
    if number > u64::MAX as u128 {
        u64::MAX
    } else {
        number as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{product, product_below};

    #[test]
    fn products_are_rounded_half_up_or_down_to_the_integer_below() {
        const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
        let least = f64::from_bits(1);
        for (n, factor, nearest, below) in [
            (0, 0.0, 0, 0),
            (u64::MAX, 0.0, 0, 0),
            (u64::MAX, least, 0, 0),
            (1, 0.5, 1, 0),
            (1, 0.5 - f64::EPSILON, 0, 0),
            (3, 0.5, 2, 1),
            (5, 0.25, 1, 1),
            (7, 0.25, 2, 1),
            (u64::MAX, 0.5, 1 << 63, (1 << 63) - 1),
            (u64::MAX, 1.0 / TWO_TO_64, 1, 0),
            (u64::MAX, 0.5 / TWO_TO_64, 0, 0),
            (9, 1.0, 9, 9),
            (9, 1.5, 14, 13),
            (3, 1.25, 4, 3),
            (1 << 53, 1.0 + f64::EPSILON, (1 << 53) + 2, (1 << 53) + 2),
            (1, TWO_TO_64 / 2.0, 1 << 63, 1 << 63),
            (1, TWO_TO_64, u64::MAX, u64::MAX),
            (0, f64::INFINITY, 0, 0),
        ] {
            assert_eq!(product(n, factor), nearest, "{n} × {factor}");
            assert_eq!(product_below(n, factor), below, "{n} × {factor}");
        }
    }
}
