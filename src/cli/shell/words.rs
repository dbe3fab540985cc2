//! Splitting lines into words, as a shell does.

/// A line whose quotes are not closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Unclosed;

/// A line up to the cursor: the words before the cursor, and the word that it is in.
#[derive(Debug, PartialEq, Eq)]
pub struct Partial {
    /// The whole words.
    pub words: Vec<Vec<u8>>,
    /// The beginning of the last word, without quotes; empty if the word has not begun.
    pub last: Vec<u8>,
    /// The byte of the line at which the last word begins.
    pub start: usize,
}

/// The words of a line. Blanks separate them, unless they are in quotes or after a backslash; `#`
/// at the beginning of a word begins a comment.
///
/// # Errors
/// When a quote is not closed.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unclosed> {
    let mut reader = Reader::new(line);
    let mut words = Vec::new();
    while let Some((word, _)) = reader.next_word() {
        words.push(word);
    }
    if reader.is_open { Err(Unclosed) } else { Ok(words) }
}

/// The words of an incomplete line, which may end within quotes.
pub fn split_partial(line: &[u8]) -> Partial {
    let mut reader = Reader::new(line);
    let mut words = Vec::new();
    while let Some((word, start)) = reader.next_word() {
        if reader.at == line.len() && (reader.is_open || !reader.ended) {
            return Partial { words, last: word, start };
        }
        words.push(word);
    }
    Partial { words, last: Vec::new(), start: line.len() }
}

/// Quote a word so that [`split`], and other shells, read it literally.
pub fn quote(word: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(word.len());
    for &byte in word {
        if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"/._-+:=@%,".contains(&byte) {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted
}

struct Reader<'a> {
    line: &'a [u8],
    at: usize,
    /// Whether the last word ended in an open quote or in a backslash.
    is_open: bool,
    /// Whether the last word ended before a blank.
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0, is_open: false, ended: false }
    }

    /// Consume and return the next byte.
    fn take(&mut self) -> Option<u8> {
        let byte = self.line.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// The next word without its quotes, and where it begins.
    fn next_word(&mut self) -> Option<(Vec<u8>, usize)> {
        while self.line.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let start = self.at;
        if matches!(self.line.get(start), None | Some(b'#')) {
            self.at = self.line.len();
            return None;
        }
        let mut word = Vec::new();
        let mut quote = None;
        (self.is_open, self.ended) = (false, false);
        while let Some(byte) = self.take() {
            match (quote, byte) {
                (None, b' ' | b'\t' | b'\n' | b'\r' | 0x0c) => {
                    self.ended = true;
                    return Some((word, start));
                }
                (None, b'\'' | b'"') => quote = Some(byte),
                (Some(open), _) if byte == open => quote = None,
                (None, b'\\') => match self.take() {
                    Some(escaped) => word.push(escaped),
                    None => self.is_open = true,
                },
                // in double quotes, a backslash only escapes characters with a special meaning
                (Some(b'"'), b'\\') => match self.take() {
                    Some(escaped @ (b'"' | b'\\' | b'$' | b'`')) => word.push(escaped),
                    Some(other) => word.extend([b'\\', other]),
                    None => self.is_open = true,
                },
                _ => word.push(byte),
            }
        }
        self.is_open |= quote.is_some();
        Some((word, start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_into_words() {
        let words = |line: &str| {
            let words = split(line.as_bytes())?;
            Ok(words.into_iter().map(|w| String::from_utf8(w).expect("UTF-8")).collect::<Vec<_>>())
        };
        assert_eq!(words("").as_deref(), Ok(&[][..]));
        assert_eq!(words(" # nothing").as_deref(), Ok(&[][..]));
        assert_eq!(
            words("rm a\\ b 'c d'\"e \\\" \\n\" '' f#g # h").expect("words"),
            ["rm", "a b", "c de \" \\n", "", "f#g"]
        );
        for open in ["'", "a \"b", "a\\", "\"a\\"] {
            assert_eq!(words(open), Err(Unclosed), "{open}");
        }
        for name in ["plain", "a b", "$(x)", "'\"\\", "ä*?", "-f", "#"] {
            let line = quote(name.as_bytes());
            assert_eq!(split(&line), Ok(vec![name.as_bytes().to_vec()]), "{name}");
        }
    }

    #[test]
    fn the_last_word_may_be_incomplete() {
        let partial = |line: &str| {
            let Partial { words, last, start } = split_partial(line.as_bytes());
            (words.len(), String::from_utf8(last).expect("UTF-8"), start)
        };
        assert_eq!(partial(""), (0, String::new(), 0));
        assert_eq!(partial("ls"), (0, "ls".into(), 0));
        assert_eq!(partial("ls "), (1, String::new(), 3));
        assert_eq!(partial("ls 'a b"), (1, "a b".into(), 3));
        assert_eq!(partial("ls a\\ b"), (1, "a b".into(), 3));
        assert_eq!(partial("ls a b\\"), (2, "b".into(), 5));
    }
}
