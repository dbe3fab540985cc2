//! Repeated messages, such as those about a failing device. The first one is logged at once, the
//! others are counted, and the count is logged from time to time.

use std::time::{Duration, Instant};

/// How long repetitions of a message are counted before the count is logged.
const INTERVAL: Duration = Duration::from_secs(60);
/// How many different messages are remembered.
const KNOWN_MAX: usize = 64;

/// The messages that were logged recently.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    /// Messages with the same key are repetitions.
    key: String,
    /// The last such message.
    text: String,
    /// When such a message was last logged.
    logged: Instant,
    /// How many such messages were only counted since then.
    withheld: u64,
}

impl Known {
    fn count(&self, now: Instant) -> String {
        let Self { text, logged, withheld, .. } = self;
        let seconds = now.duration_since(*logged).as_secs().max(1);
        format!("{text} ({withheld} more like this in {seconds} s)")
    }
}

impl Repeats {
    /// The lines to log for the message `text`: first the counts that are due, then the message
    /// itself, unless it is only counted.
    pub fn say(&mut self, text: String, now: Instant) -> Vec<String> {
        let key = key(&text);
        let mut lines = self.due(now);
        if let Some(known) = self.known.iter_mut().find(|known| known.key == key) {
            known.withheld += 1;
            known.text = text;
            return lines;
        }
        if self.known.len() >= KNOWN_MAX {
            let oldest = self.known.remove(0);
            if oldest.withheld > 0 {
                lines.push(oldest.count(now));
            }
        }
        lines.push(text.clone());
        self.known.push(Known { key, text, logged: now, withheld: 0 });
        lines
    }

    /// The counts that are due to be logged. Messages that were not repeated are forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        self.known.retain_mut(|known| {
            if now.duration_since(known.logged) < INTERVAL {
                return true;
            }
            if known.withheld == 0 {
                return false;
            }
            lines.push(known.count(now));
            (known.logged, known.withheld) = (now, 0);
            true
        });
        lines
    }

    /// All counts, at the end.
    pub fn finish(&mut self, now: Instant) -> Vec<String> {
        let known = std::mem::take(&mut self.known);
        known.iter().filter(|known| known.withheld > 0).map(|known| known.count(now)).collect()
    }
}

/// The message without block numbers, because a failing device can fail at any block.
fn key(text: &str) -> String {
    let mut parts = text.split("block 0x");
    let mut key = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        key += "block 0x";
        key += part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(block: u32) -> String {
        format!("flush failed: write of block {block:#x} failed: why")
    }

    #[test]
    fn the_first_is_logged_and_the_others_are_counted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut repeats = Repeats::default();
        assert_eq!(repeats.say(failed(3), at(0)), [failed(3)]);
        assert!(repeats.say(failed(0x2f), at(1)).is_empty());
        assert!(repeats.say(failed(4), at(59)).is_empty());
        assert_eq!(repeats.say("else".into(), at(59)), ["else"]);
        assert_eq!(
            repeats.say(failed(5), at(61)),
            [format!("{} (2 more like this in 61 s)", failed(4))]
        );
        assert!(repeats.say(failed(6), at(62)).is_empty());
        assert_eq!(
            repeats.finish(at(70)),
            [format!("{} (2 more like this in 9 s)", failed(6))],
            "and nothing of what came once"
        );
    }

    #[test]
    fn a_message_that_stopped_is_logged_again_at_once() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        assert_eq!(repeats.say("x".into(), start).len(), 1);
        assert!(repeats.due(start + INTERVAL).is_empty());
        assert_eq!(repeats.say("x".into(), start + INTERVAL).len(), 1);
    }

    #[test]
    fn the_number_of_different_messages_is_bounded_and_no_count_is_lost() {
        let now = Instant::now();
        let mut repeats = Repeats::default();
        repeats.say("first".into(), now);
        repeats.say("first".into(), now);
        let lines: Vec<String> =
            (0..KNOWN_MAX).flat_map(|i| repeats.say(format!("message {i}"), now)).collect();
        assert_eq!(lines.len(), KNOWN_MAX + 1);
        assert!(lines.contains(&"first (1 more like this in 1 s)".to_owned()), "{lines:?}");
        assert!(repeats.known.len() <= KNOWN_MAX);
    }
}
