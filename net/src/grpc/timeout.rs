use std::time::Duration;

/// Reads a `grpc-timeout` value. The error is the text that grpc-go puts behind `malformed grpc-timeout: `.
pub(super) fn parse(value: &[u8]) -> Result<Duration, String> {
    const DIGITS_MAX: usize = 8;
    let quoted = || super::quote(value);
    let (&unit, digits) = value
        .split_last()
        .filter(|(_, digits)| !digits.is_empty())
        .ok_or_else(|| format!("transport: timeout string is too short: {}", quoted()))?;
    if digits.len() > DIGITS_MAX {
        return Err(format!(
            "transport: timeout string is too long: {}",
            quoted()
        ));
    }
    let unit_nanos: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => {
            return Err(format!(
                "transport: timeout unit is not recognized: {}",
                quoted()
            ));
        }
    };
    let mut count: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            let quoted = super::quote(digits);
            return Err(format!(
                "strconv.ParseUint: parsing {quoted}: invalid syntax"
            ));
        }
        count = count * 10 + u64::from(digit - b'0');
    }
    let nanos = count.saturating_mul(unit_nanos).min(i64::MAX as u64);
    Ok(Duration::from_nanos(nanos))
}

/// Appends the value for `timeout`, in the finest unit that eight digits can hold, rounded up.
pub(super) fn put(out: &mut Vec<u8>, timeout: Duration) {
    let nanos = timeout.as_nanos();
    let units: [(u8, u128); 6] = [
        (b'n', 1),
        (b'u', 1_000),
        (b'm', 1_000_000),
        (b'S', 1_000_000_000),
        (b'M', 60_000_000_000),
        (b'H', 3_600_000_000_000),
    ];
    let (unit, count) = units
        .into_iter()
        .map(|(unit, unit_nanos)| (unit, nanos.div_ceil(unit_nanos)))
        .find(|&(_, count)| count <= 99_999_999)
        .unwrap_or((b'H', 99_999_999));
    out.extend_from_slice(count.to_string().as_bytes());
    out.push(unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (value, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_nanos(i64::MAX as u64)),
        ] {
            assert_eq!(parse(value.as_bytes()), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_not_a_timeout_is_worded_as_grpc_go_does() {
        for (value, expected) in [
            ("", "transport: timeout string is too short: \"\""),
            ("S", "transport: timeout string is too short: \"S\""),
            (
                "123456789S",
                "transport: timeout string is too long: \"123456789S\"",
            ),
            ("1x", "transport: timeout unit is not recognized: \"1x\""),
            ("-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ] {
            assert_eq!(parse(value.as_bytes()), Err(expected.to_string()));
        }
    }

    #[test]
    fn what_is_put_is_read_back_and_never_shorter() {
        for nanos in [
            0,
            1,
            99_999_999,
            100_000_001,
            5_000_000_000,
            86_400_000_000_000,
        ] {
            let timeout = Duration::from_nanos(nanos);
            let mut value = Vec::new();
            put(&mut value, timeout);
            let read = parse(&value).unwrap();
            assert!(read >= timeout && read < timeout + Duration::from_secs(1));
        }
    }
}
