//! [`JsonLine`]: one event as one line of JSON, written without building a value first.
//!
//! A request has one line, and writing it must cost less than what it tells of. Everything that is
//! text goes through [`escape`], so that no value can end its line or its string.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LOST_TARGET;

/// The line that says how many lines were lost because nobody read the log.
pub(super) fn lost_line(lost: u64) -> String {
    let mut time = String::new();
    // Without the time the line says what it has to.
    let _untimed = SystemTime.format_time(&mut Writer::new(&mut time));
    format!(
        "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{lost} lines were lost\",\
         \"lost\":{lost},\"target\":\"{LOST_TARGET}\"}}\n"
    )
}

thread_local! {
    /// The line in the making. It keeps its room for the next one.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The time of the last line, up to its second: `2026-11-27T17:48:55`.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Writes `timestamp` (RFC 3339, UTC), `level`, the event's own fields and `target`.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => {
                line.clear();
                write_line(&mut line, event)?;
                writer.write_str(&line)
            }
            // A value that logs something itself while it is written.
            Err(_) => {
                let mut line = String::new();
                write_line(&mut line, event)?;
                writer.write_str(&line)
            }
        })
    }
}

fn write_line(line: &mut String, event: &Event<'_>) -> fmt::Result {
    line.push_str("{\"timestamp\":\"");
    write_time(line)?;
    line.push_str("\",\"level\":\"");
    line.push_str(event.metadata().level().as_str());
    line.push('"');
    let mut fields = Fields {
        line,
        written: Ok(()),
    };
    event.record(&mut fields);
    fields.written?;
    line.push_str(",\"target\":\"");
    escape(line, event.metadata().target());
    line.push_str("\"}\n");
    Ok(())
}

/// The present moment, with microseconds. A date takes longer to work out than the rest of a line
/// to write, so that is done once a second.
#[expect(
    clippy::disallowed_methods,
    reason = "a log tells the machine's time, as its library does"
)]
fn write_time(line: &mut String) -> fmt::Result {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() {
            text.clear();
            SystemTime.format_time(&mut Writer::new(text))?;
            // Its own microseconds may be of a later second than ours: then it is worked out again.
            let is_ours = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .is_ok_and(|then| then.as_secs() == now.as_secs());
            *second = if is_ours { now.as_secs() } else { u64::MAX };
            if let Some(point) = text.find(['.', 'Z']) {
                text.truncate(point);
            }
        }
        line.push_str(text);
        Ok::<_, fmt::Error>(())
    })?;
    line.push('.');
    let micros = now.subsec_micros();
    for place in [100_000, 10_000, 1_000, 100, 10, 1] {
        line.push(digit(micros / place % 10));
    }
    line.push('Z');
    Ok(())
}

fn digit(number: u32) -> char {
    char::from_digit(number, 10).unwrap_or('0')
}

struct Fields<'l> {
    line: &'l mut String,
    written: fmt::Result,
}

impl Fields<'_> {
    fn begin(&mut self, field: &Field) {
        self.line.push_str(",\"");
        escape(self.line, field.name());
        self.line.push_str("\":");
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.begin(field);
        self.line.push('"');
        escape(self.line, value);
        self.line.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.begin(field);
        self.line.push_str(itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.begin(field);
        self.line.push_str(itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.begin(field);
        self.line.push_str(if value { "true" } else { "false" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.begin(field);
        self.line.push('"');
        let written = write!(Escaped(self.line), "{value:?}");
        self.written = self.written.and(written);
        self.line.push('"');
    }
}

/// Escapes what is written as a part of a JSON string (RFC 8259 section 7).
struct Escaped<'l>(&'l mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

fn escape(line: &mut String, text: &str) {
    // Byte by byte without leaving early, which the compiler does many at a time: nearly every text
    // has nothing to escape.
    let is_odd = |byte: u8| (byte < b' ') | matches!(byte, b'"' | b'\\' | 0x7f);
    if !text.bytes().fold(false, |odd, byte| odd | is_odd(byte)) {
        line.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            control if control < ' ' || control == '\u{7f}' => {
                line.push_str("\\u00");
                let code = u32::from(control);
                for four_bits in [code >> 4, code & 0xf] {
                    line.push(char::from_digit(four_bits, 16).unwrap_or('0'));
                }
            }
            plain => line.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_lost_is_told_in_json() {
        let line: Value = serde_json::from_str(&lost_line(12)).unwrap();
        assert_eq!(line["message"], "12 lines were lost");
        assert_eq!(line["lost"], 12);
        assert_eq!(line["level"], "WARN");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_line_is_json_whatever_it_says() {
        let output = Output::default();
        let writer = output.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(JsonLine)
            .with_writer(move || writer.clone());
        let odd = "a\"b\\c\nd\u{1}e\u{7f}ä\u{1F600}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(
                text = odd,
                shown = %odd,
                number = 7_u64,
                below = -7_i64,
                yes = true,
                none = None::<u64>,
                "said {odd}"
            );
        });
        let written = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('\n').count(), 1, "{written}");
        let line: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(line["text"], odd);
        assert_eq!(line["shown"], odd);
        assert_eq!(line["message"], format!("said {odd}"));
        assert_eq!(line["number"], 7);
        assert_eq!(line["below"], -7);
        assert_eq!(line["yes"], true);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "shared::log::json::tests");
        assert!(line.get("none").is_none());
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(
            timestamp.ends_with('Z') && timestamp.contains('T'),
            "{timestamp}"
        );
    }
}
