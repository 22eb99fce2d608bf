//! Texts come out whole, whatever the tokens' boundaries and stop strings.

use proptest::prelude::*;

use super::*;

/// Tokens of any bytes: token 0 is special, the others are the given ones.
fn pieces_of(tokens: &[Vec<u8>], stops: &[&str]) -> (Vec<String>, bool) {
    let bytes = std::iter::once(&b"<|end|>"[..]).chain(tokens.iter().map(Vec::as_slice));
    let vocabulary = Arc::new(Vocabulary::new(bytes.map(Box::from).collect(), vec![0]));
    let mut out = TextOut::new(vocabulary, stops.iter().map(ToString::to_string).collect());
    let mut stopped = false;
    let mut pieces = Vec::new();
    for token in 1..=tokens.len() {
        let piece = out.push(token as TokenId);
        stopped = piece.stopped;
        pieces.push(piece.text);
    }
    pieces.push(out.finish());
    (pieces, stopped)
}

fn tokens(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The invariant, said again without increments.
fn cut_lossy(bytes: &[u8], stops: &[&str]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    for end in text.char_indices().map(|(at, letter)| at + letter.len_utf8()) {
        let starts = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(**stop));
        if let Some(start) = starts.map(|stop| end - stop.len()).min() {
            return text[..start].to_owned();
        }
    }
    text
}

#[test]
fn a_character_is_held_until_it_is_whole() {
    let (pieces, _) = pieces_of(&[vec![b'a', 0xf0, 0x9f], vec![0xa6], vec![0x80, b'b']], &[]);
    assert_eq!(pieces, ["a", "", "🦀b", ""]);
}

#[test]
fn what_cannot_become_a_character_is_replaced_as_a_lossy_decoding_does() {
    let (pieces, _) = pieces_of(&[vec![0xe2, 0x82], vec![b'x', 0xff], vec![0xc3]], &[]);
    assert_eq!(pieces, ["", "\u{fffd}x\u{fffd}", "", "\u{fffd}"]);
}

#[test]
fn a_stop_string_across_tokens_ends_the_text_before_it() {
    let (pieces, stopped) = pieces_of(&tokens(&["one E", "N", "D two"]), &["END"]);
    assert_eq!((pieces.concat().as_str(), stopped), ("one ", true));
    assert_eq!(pieces, ["one ", "", "", ""]);
}

#[test]
fn what_only_began_as_a_stop_string_is_given_out() {
    let (pieces, stopped) = pieces_of(&tokens(&["E", "N", "E", "N"]), &["END"]);
    assert_eq!((pieces, stopped), (vec!["".into(), "".into(), "EN".into(), "".into(), "EN".into()], false));
}

#[test]
fn of_stop_strings_the_first_complete_counts_however_tokens_fall() {
    for split in [&["xabcdy"][..], &["xa", "bc", "dy"], &["x", "a", "b", "c", "d", "y"]] {
        let (pieces, _) = pieces_of(&tokens(split), &["abcd", "c", "bc"]);
        assert_eq!(pieces.concat(), "xa", "{split:?}");
    }
}

#[test]
fn special_tokens_and_unknown_numbers_bring_no_text() {
    let vocabulary = Arc::new(Vocabulary::new(vec![b"<|end|>"[..].into(), b"a"[..].into()], vec![0]));
    let mut out = TextOut::new(vocabulary, vec![String::new()]);
    assert_eq!([0, 1, 7, 0].map(|token| out.push(token).text), ["", "a", "", ""]);
}

proptest! {
    #[test]
    fn pieces_joined_are_the_lossy_text_cut_at_the_first_stop(
        parts in prop::collection::vec(
            prop_oneof![
                "[abc]{0,4}".prop_map(String::into_bytes),
                "[aé€🦀\u{fffd}]{0,2}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..3),
            ],
            0..12,
        ),
        cuts in prop::collection::vec(1usize..5, 40),
        stops in prop::collection::vec("[abcé\u{fffd}]{0,3}", 0..4),
    ) {
        let bytes = parts.concat();
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let mut split = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (token, after) = rest.split_at((*cut).min(rest.len()));
            split.push(token.to_vec());
            rest = after;
        }

        let (pieces, _) = pieces_of(&split, &stops);

        prop_assert_eq!(pieces.concat(), cut_lossy(&bytes, &stops));
    }
}
