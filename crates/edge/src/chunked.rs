//! The decoder of chunked bodies (RFC 9112 §7.1). It does no I/O and never consumes a byte past the end of the body.

/// Longest extensions of a chunk, in bytes. In practice only attackers send any.
const EXTENSION_MAX_BYTES: usize = 128;
/// Largest trailer section, in bytes. It is read and discarded.
const TRAILERS_MAX_BYTES: usize = 4 << 10;
/// How many hexadecimal digits a chunk's size may have; 15 of them cannot overflow.
const SIZE_MAX_DIGITS: u8 = 15;

/// Why the input is no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidChunk(pub(crate) &'static str);

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Bytes of the input that were used.
    pub(crate) consumed: usize,
    /// Bytes of the body that were written to the output.
    pub(crate) produced: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size, with the value and the number of digits so far.
    Size(u64, u8),
    /// In the extensions of a chunk of this size, with the bytes that they may still have.
    Extension(u64, usize),
    /// After the CR that ends the size.
    SizeNewline(u64),
    /// In the data, with the bytes that are left of it.
    Data(u64),
    /// After the data: CR, then LF.
    DataEnd,
    DataNewline,
    /// In the trailer section, at the beginning of a line, within one, or after its CR.
    TrailerStart,
    Trailer,
    TrailerNewline,
    /// After the CR of the empty line that ends everything.
    LastNewline,
    Done,
}

/// Decodes one body.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    state: State,
    trailers_left: usize,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { state: State::Size(0, 0), trailers_left: TRAILERS_MAX_BYTES }
    }

    /// Whether the whole body, including its trailer section, has been consumed.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes as much of `input` as fits into `output`.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Decoded, InvalidChunk> {
        let mut progress = Decoded::default();
        while progress.consumed < input.len() && !self.is_done() {
            if let State::Data(left) = self.state {
                let count = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(input.len() - progress.consumed)
                    .min(output.len() - progress.produced);
                if count == 0 {
                    break;
                }
                output[progress.produced..progress.produced + count]
                    .copy_from_slice(&input[progress.consumed..progress.consumed + count]);
                progress.produced += count;
                progress.consumed += count;
                let left = left - count as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
            } else {
                self.state = self.step(input[progress.consumed])?;
                progress.consumed += 1;
            }
        }
        Ok(progress)
    }

    /// The state after one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, InvalidChunk> {
        const LINE_END: InvalidChunk = InvalidChunk("a chunk does not end with CR LF");
        match self.state {
            State::Size(size, digits) => Self::step_size(size, digits, byte),
            State::Extension(size, left) => match byte {
                b'\r' => Ok(State::SizeNewline(size)),
                b'\t' | b' '..=b'~' | 0x80.. if left > 0 => Ok(State::Extension(size, left - 1)),
                _ => Err(InvalidChunk("a chunk has an invalid extension")),
            },
            State::SizeNewline(size) => match byte {
                b'\n' if size == 0 => Ok(State::TrailerStart),
                b'\n' => Ok(State::Data(size)),
                _ => Err(LINE_END),
            },
            State::DataEnd if byte == b'\r' => Ok(State::DataNewline),
            State::DataNewline if byte == b'\n' => Ok(State::Size(0, 0)),
            State::TrailerStart if byte == b'\r' => Ok(State::LastNewline),
            State::TrailerStart | State::Trailer => self.step_trailer(byte),
            State::TrailerNewline if byte == b'\n' => Ok(State::TrailerStart),
            State::LastNewline if byte == b'\n' => Ok(State::Done),
            State::Data(_) | State::Done => Ok(self.state),
            State::DataEnd | State::DataNewline | State::TrailerNewline | State::LastNewline => Err(LINE_END),
        }
    }

    fn step_size(size: u64, digits: u8, byte: u8) -> Result<State, InvalidChunk> {
        const BAD_SIZE: InvalidChunk = InvalidChunk("a chunk has an invalid size");
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeNewline(size)),
            b';' if digits > 0 => return Ok(State::Extension(size, EXTENSION_MAX_BYTES)),
            _ => return Err(BAD_SIZE),
        };
        if digits == SIZE_MAX_DIGITS {
            return Err(BAD_SIZE);
        }
        Ok(State::Size(size * 16 + u64::from(digit), digits + 1))
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, InvalidChunk> {
        self.trailers_left =
            self.trailers_left.checked_sub(1).ok_or(InvalidChunk("the trailer fields are too large"))?;
        match byte {
            b'\r' => Ok(State::TrailerNewline),
            // A line that begins with a space would continue the field before it, which is obsolete (RFC 9112 §5.2).
            b' ' | b'\t' if self.state == State::TrailerStart => {
                Err(InvalidChunk("a trailer field is invalid"))
            }
            b'\t' | b' '..=b'~' | 0x80.. => Ok(State::Trailer),
            _ => Err(InvalidChunk("a trailer field is invalid")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `input` in pieces, with an output of `room` bytes per call; returns the body and the bytes used.
    fn decode(input: &[u8], piece: usize, room: usize) -> Result<(Vec<u8>, usize, bool), InvalidChunk> {
        let mut decoder = Decoder::new();
        let (mut body, mut used) = (Vec::new(), 0);
        let mut output = vec![0; room];
        loop {
            let end = (used + piece).min(input.len());
            let progress = decoder.decode(&input[used..end], &mut output)?;
            body.extend_from_slice(&output[..progress.produced]);
            used += progress.consumed;
            if decoder.is_done() || (progress == Decoded::default() && end == input.len()) {
                return Ok((body, used, decoder.is_done()));
            }
        }
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read_and_what_follows_is_left() {
        let input = b"4;a=b\r\nWiki\r\n005\r\npedia\r\n0\r\nX: y\r\nZ: \r\n\r\nGET /";
        for piece in 1..input.len() {
            let (body, used, done) = decode(input, piece, 3).unwrap();
            assert_eq!((body.as_slice(), used, done), (&b"Wikipedia"[..], input.len() - 5, true));
        }
    }

    #[test]
    fn every_deviation_is_refused() {
        let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(200));
        let long_trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(5_000));
        for bad in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            ";a\r\n",
            "1\n",
            "1\r\r",
            "1\ra",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\ra",
            "1111111111111111\r\n",
            "0\r\n\n",
            "0\r\n\ra",
            "0\r\n x\r\n",
            "0\r\nX: \x01\r\n",
            "1;\x01\r\n",
            "0\r\nX: y\n\r\n",
            &long_extension,
            &long_trailer,
        ] {
            for piece in [1, 7, bad.len()] {
                assert!(decode(bad.as_bytes(), piece, 64).is_err(), "{bad:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_was_encoded_comes_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            piece in 1usize..64,
            room in 1usize..64,
            rest in prop::collection::vec(any::<u8>(), 0..16),
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            let length = input.len();
            input.extend_from_slice(&rest);
            let (body, used, done) = decode(&input, piece, room).unwrap();
            prop_assert_eq!((body, used, done), (chunks.concat(), length, true));
        }

        #[test]
        fn no_input_makes_it_panic_or_produce_more_than_it_consumed(
            input in prop::collection::vec(prop::sample::select(b"0123aAfF;\r\n\tX: g\x00\xff".to_vec()), 0..200),
            piece in 1usize..32,
        ) {
            if let Ok((body, used, _)) = decode(&input, piece, 16) {
                prop_assert!(body.len() <= used);
            }
        }
    }
}
