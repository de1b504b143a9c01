use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn decoded(decoder: &mut Decoder, hex: &str) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    decoder
        .decode(&bytes(hex), &mut fields, 1 << 20, 1000)
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn expected(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn refusal(hex: &str) -> HpackError {
    let mut fields = Fields::default();
    Decoder::new(DEFAULT_TABLE_BYTES)
        .decode(&bytes(hex), &mut fields, 1 << 20, 1000)
        .unwrap_err()
}

const REQUEST_1: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
];
const REQUEST_3: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn rfc7541_c2_single_fields() {
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    assert_eq!(
        decoded(
            &mut decoder,
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"
        ),
        expected(&[("custom-key", "custom-header")])
    );
    assert_eq!(decoder.table_bytes(), 55);
    assert_eq!(
        decoded(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468"),
        expected(&[(":path", "/sample/path")])
    );
    assert_eq!(
        decoded(&mut decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74"),
        expected(&[("password", "secret")])
    );
    assert_eq!(decoded(&mut decoder, "82"), expected(&[(":method", "GET")]));
    assert_eq!(decoder.table_bytes(), 55);
}

#[test]
fn rfc7541_c3_and_c4_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
        assert_eq!(decoded(&mut decoder, blocks[0]), expected(&REQUEST_1));
        assert_eq!(decoder.table_bytes(), 57);
        let mut second = expected(&REQUEST_1);
        second.extend(expected(&[("cache-control", "no-cache")]));
        assert_eq!(decoded(&mut decoder, blocks[1]), second);
        assert_eq!(decoder.table_bytes(), 110);
        assert_eq!(decoded(&mut decoder, blocks[2]), expected(&REQUEST_3));
        assert_eq!(decoder.table_bytes(), 164);
    }
}

#[test]
fn rfc7541_c5_and_c6_responses_with_eviction() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
         2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new(256);
        let mut first = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ];
        assert_eq!(decoded(&mut decoder, blocks[0]), expected(&first));
        assert_eq!(decoder.table_bytes(), 222);
        first[0].1 = "307";
        assert_eq!(decoded(&mut decoder, blocks[1]), expected(&first));
        assert_eq!(decoder.table_bytes(), 222);
        let third = [
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            ("location", "https://www.example.com"),
            ("content-encoding", "gzip"),
            ("set-cookie", cookie),
        ];
        assert_eq!(decoded(&mut decoder, blocks[2]), expected(&third));
        assert_eq!(decoder.table_bytes(), 215);
    }
}

#[test]
fn encoder_makes_the_blocks_of_rfc7541_c4() {
    let mut encoder = Encoder::new(DEFAULT_TABLE_BYTES, true);
    let mut block = Vec::new();
    for (name, value) in REQUEST_1 {
        encoder.field(&mut block, name.as_bytes(), value.as_bytes());
    }
    assert_eq!(block, bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"));
    block.clear();
    for (name, value) in REQUEST_1.into_iter().chain([("cache-control", "no-cache")]) {
        encoder.field(&mut block, name.as_bytes(), value.as_bytes());
    }
    assert_eq!(block, bytes("8286 84be 5886 a8eb 1064 9cbf"));
}

#[test]
fn what_is_not_hpack_is_refused() {
    assert_eq!(refusal("80"), HpackError::NoSuchIndex);
    assert_eq!(refusal("be"), HpackError::NoSuchIndex);
    assert_eq!(refusal("7f"), HpackError::Cut);
    assert_eq!(refusal("ff ff ff ff ff ff"), HpackError::IntegerTooLarge);
    assert_eq!(refusal("00 01"), HpackError::Cut);
    assert_eq!(refusal("00 05 61"), HpackError::Cut);
    assert_eq!(refusal("00 81 ff 00"), HpackError::BadHuffman);
    assert_eq!(refusal("3f e2 1f"), HpackError::BadSizeUpdate);
    assert_eq!(refusal("82 20"), HpackError::BadSizeUpdate);
}

#[test]
fn list_over_its_bound_is_counted_but_not_kept_and_table_stays_in_step() {
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut fields = Fields::default();
    let mut block = bytes("4001 6101 62");
    block.extend([0xbe; 10_000]);
    decoder.decode(&block, &mut fields, 340, 1000).unwrap();
    assert!(fields.is_truncated());
    assert_eq!((fields.len(), fields.list_bytes()), (10, 34 * 10_001));
    decoder.decode(&[0xbe], &mut fields, 340, 1000).unwrap();
    assert!(!fields.is_truncated());
    assert_eq!(fields.get(b"a"), Some(&b"b"[..]));
}

#[test]
fn only_blocks_that_leave_the_table_alone_say_so() {
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut fields = Fields::default();
    let mut effect = |hex| {
        let decoded = decoder
            .decode(&bytes(hex), &mut fields, 1 << 20, 1000)
            .unwrap();
        (decoded.table_changed, decoded.table_used)
    };
    assert_eq!(effect("82"), (false, false));
    assert_eq!(effect("4001 6101 62"), (true, false));
    assert_eq!(effect("82be"), (false, true));
    assert_eq!(effect("0f2f 0162"), (false, true));
    assert_eq!(effect("0001 6101 62"), (false, false));
    assert_eq!(effect("20"), (true, false));
}

proptest! {
    #[test]
    fn arbitrary_bytes_stay_within_bounds_and_fields_survive(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz::hpack(&data);
    }
}
