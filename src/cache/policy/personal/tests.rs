//! Tables of what is personal and what only looks like it.

use proptest::prelude::*;

use super::*;
use crate::chat::{Endpoint, Request};

const PERSONAL: [(&str, Personal); 46] = [
    ("Write to ada.lovelace+news@mail.example.org, please", Personal::Email),
    ("<a@b.co>", Personal::Email),
    ("mailto:a_b@example.com: hello", Personal::Email),
    ("user@163.com", Personal::Email),
    ("my mail is x@y.example.", Personal::Email),
    ("Call +49 30 1234567", Personal::Phone),
    ("Call +49 (0) 30 123456-7", Personal::Phone),
    ("+1 415 555 2671", Personal::Phone),
    ("+14155552671", Personal::Phone),
    ("(+44 20 7946 0958)", Personal::Phone),
    ("0049 170 1234567", Personal::Phone),
    ("+39 06 1234567", Personal::Phone),
    ("+354 555 1234", Personal::Phone),
    ("+7 912 345-67-89", Personal::Phone),
    ("ring (415) 555-2671 today", Personal::Phone),
    ("(030) 1234567", Personal::Phone),
    ("415-555-2671", Personal::Phone),
    ("415.555.2671.", Personal::Phone),
    ("1-800-555-1234", Personal::Phone),
    ("030 12345678", Personal::Phone),
    ("0171/2345678", Personal::Phone),
    ("06 12 34 56 78", Personal::Phone),
    ("020 7946 0958 after five", Personal::Phone),
    ("my card is 4111 1111 1111 1111", Personal::Card),
    ("4111111111111111", Personal::Card),
    ("5500-0000-0000-0004,", Personal::Card),
    ("3782 822463 10005", Personal::Card),
    ("pay with 12 4012 8888 8888 1881 now", Personal::Card),
    ("2223003122003222", Personal::Card),
    ("30569309025904", Personal::Card),
    ("IBAN DE89 3704 0044 0532 0130 00", Personal::Iban),
    ("DE89370400440532013000", Personal::Iban),
    ("gb29 nwbk 6016 1331 9268 19 is mine", Personal::Iban),
    ("FR14 2004 1010 0505 0001 3M02 606", Personal::Iban),
    ("NO9386011117947", Personal::Iban),
    ("my number: 123-45-6789", Personal::SocialSecurity),
    ("(899-45-6789)", Personal::SocialSecurity),
    ("key=sk-proj-4f9aQ2bV7xL0mN3pR8sT", Personal::Secret),
    ("AKIAIOSFODNN7EXAMPLE", Personal::Secret),
    ("token ghp_0123456789abcdefghij0123456789abcdef", Personal::Secret),
    ("xoxb-123456789012-abcdefghijkl", Personal::Secret),
    ("glpat-1a2b3c4d5e6f7g8h9i0j", Personal::Secret),
    ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", Personal::Secret),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", Personal::Secret),
    ("-----BEGIN PRIVATE KEY-----", Personal::Secret),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", Personal::Secret),
];

const HARMLESS: [&str; 62] = [
    "",
    "@",
    "How do I reset my password?",
    "What is 15% of 200 dollars?",
    "It costs $1,234,567.89, or 1.234.567,89 €",
    "a total of 4 111 111 dollars",
    "on 2024-05-06 at 10:30",
    "from 01.02.2024 to 03.04.2025",
    "05/06/2024 and 05-06-2024",
    "2024-05-06T10:30:00.123Z",
    "1700000000000",
    "20240506103000",
    "order 1002345678",
    "order 112-1234567-1234567",
    "invoice 0012345678",
    "ticket #123-45-6789",
    "parcel 1Z999AA10123456784",
    "version 1.2.3.4 or 10.15.7",
    "address 192.168.178.24, or 010.020.030.040",
    "2001:db8::8a2e:370:7334",
    "ISBN 978-3-16-148410-0",
    "ISBN 0-306-40615-2 or 0306406152",
    "4111 1111 1111 1112 fails its check",
    "4111111111111112",
    "1234567890123456",
    "9780306406157000",
    "000-12-3456, 666-12-3456, 123-00-4567, 123-45-0000, 912-45-6789",
    "123-45-678 and 123-456-789",
    "12-123-45-6789",
    "123-45-6789-1",
    "DE89 3704 0044 0532 0130 01",
    "DE12 is a postal code",
    "XX89370400440532013000",
    "A1B2 C3D4",
    "550e8400-e29b-41d4-a716-446655440000",
    "12345678-1234-1234-1234-123456789012",
    "zip 01234-5678",
    "0.123456789 is below 0,5",
    "pi is 3.14159265358979",
    "600-100-1000 parts",
    "200 300 4000",
    "numbers 100 200 300 400",
    "+10 000 000 users",
    "+100 and +2.5",
    "C++11 and C++20",
    "(2024) 100-200",
    "(a) 12 (b) 13",
    "@media (max-width: 600px)",
    "follow @stiver and @ada_l",
    "git clone git@github.com:owner/name.git",
    "lodash@4.17.21 and @scope/pkg@1.2.3",
    "return@forEach",
    "image@2x.png",
    "user@localhost",
    "a @ b.com",
    "sk-learn-is-a-library-with-a-long-name",
    "a task-list and ask-me-anything-0123456789012345",
    "AKIA is a prefix",
    "eyJ is how they begin",
    "-----BEGIN CERTIFICATE-----",
    "--------",
    "ghp_short1",
];

#[test]
fn what_is_personal_is_found_and_named() {
    for (text, expected) in PERSONAL {
        assert_eq!(found_in(text), Some(expected), "{text}");
    }
}

#[test]
fn what_only_looks_like_it_passes() {
    for text in HARMLESS {
        assert_eq!(found_in(text), None, "{text}");
    }
}

#[test]
fn users_and_tools_are_listened_to_and_instructions_are_not() {
    let said = |messages: &str| {
        let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
        found_among(&Request::parse(Endpoint::Chat, body.as_bytes()).unwrap().messages)
    };
    let mail = |role: &str| format!(r#"{{"role":"{role}","content":"x@example.org"}}"#);
    let plain = r#"{"role":"user","content":"hello"}"#;

    assert_eq!(said(&format!("{},{plain}", mail("system"))), None);
    assert_eq!(said(&format!("{},{plain}", mail("assistant"))), None);
    assert_eq!(said(&format!("{},{plain}", mail("user"))), Some(Personal::Email));
    assert_eq!(said(&mail("user")), Some(Personal::Email));
    assert_eq!(said(&mail("developer")), None);
}

#[test]
fn texts_are_read_within_their_bounds() {
    let said = |earlier: usize, last: usize| {
        let text = |n_bytes: usize, rest: &str| format!("{} {rest}", "x ".repeat(n_bytes / 2));
        let body = serde_json::json!({"model": "m", "messages": [
            {"role": "user", "content": text(earlier, "a@example.org")},
            {"role": "user", "content": text(last, if last > 100 { "a@example.org" } else { "hi" })},
        ]});
        found_among(&Request::parse(Endpoint::Chat, body.to_string().as_bytes()).unwrap().messages)
    };

    assert_eq!(said(MAX_EARLIER_BYTES, MAX_LAST_BYTES - 100), Some(Personal::Email));
    assert_eq!(said(MAX_EARLIER_BYTES - 100, 10), Some(Personal::Email));
    assert_eq!(said(MAX_EARLIER_BYTES, 10), None);
    assert_eq!(said(MAX_EARLIER_BYTES, MAX_LAST_BYTES), None);
}

proptest! {
    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let _ = found_in(&text);
    }

    #[test]
    fn signs_of_numbers_in_any_order_are_read(text in "[0-9 ()+./@-]{0,80}") {
        let _ = found_in(&text);
    }

    #[test]
    fn an_address_is_found_whatever_stands_around_it(before in "[a-z ]{0,40}", after in "[a-z ,;]{0,40}") {
        let text = format!("{before} ada@example.org {after}");
        prop_assert_eq!(found_in(&text), Some(Personal::Email));
    }

    #[test]
    fn a_card_with_a_wrong_digit_passes(place in 6usize..16, more in 1u32..10) {
        let mut digits: Vec<u32> = "4111111111111111".chars().filter_map(|digit| digit.to_digit(10)).collect();
        digits[place] = (digits[place] + more) % 10;
        let text: String = digits.iter().map(u32::to_string).collect();
        prop_assert_eq!(found_in(&text), None);
    }

    #[test]
    fn an_iban_with_a_wrong_digit_passes(place in 4usize..22, more in 1u32..10) {
        let mut text: Vec<u8> = b"DE89370400440532013000".to_vec();
        text[place] = b'0' + ((u32::from(text[place] - b'0') + more) % 10) as u8;
        prop_assert_ne!(found_in(std::str::from_utf8(&text).unwrap()), Some(Personal::Iban));
    }

    #[test]
    fn amounts_and_counts_pass(whole in 0u64..10_000_000_000, cents in 0u32..100) {
        prop_assert_eq!(found_in(&format!("it costs {whole}.{cents:02} or {whole} in all")), None);
    }

    #[test]
    fn dates_pass(year in 1900u32..2100, month in 1u32..13, day in 1u32..32) {
        for text in [
            format!("{year}-{month:02}-{day:02}"),
            format!("{day:02}.{month:02}.{year} 10:15"),
            format!("{month:02}/{day:02}/{year}"),
            format!("{year}{month:02}{day:02}"),
        ] {
            prop_assert_eq!(found_in(&text), None, "{}", text);
        }
    }
}
