//! The head of a node's answer, and where its body ends.
//!
//! httparse takes heads apart. Nodes say how long almost all of their answers are, so such a body
//! is counted; one that comes in chunks is left to actix-http's client codec (no parser of ours:
//! message framing is where proxies get hurt). What of a head a client is shown, `forward` decides.

use std::mem::MaybeUninit;

use actix_codec::Decoder as _;
use actix_http::h1::{ClientCodec, ClientPayloadCodec};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::web::{Bytes, BytesMut};
use httparse::{ParserConfig, Response, Status};

/// A longer head is refused; a node's has some four hundred bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// More fields are refused; a node sends about ten.
const MAX_FIELDS: usize = 24;

/// The head of an answer.
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    bytes: Bytes,
    /// Names and values; the first `count` are there.
    fields: [(Span, Span); MAX_FIELDS],
    count: usize,
}

/// Where a text stands in the bytes of a head.
#[derive(Clone, Copy, Default)]
struct Span {
    from: u16,
    to: u16,
}

/// How the end of a body is known.
pub(super) enum Framing {
    /// So many bytes are still to come.
    Left(u64),
    /// It comes in chunks.
    Chunked(Box<ClientPayloadCodec>),
}

/// The beginning of an answer.
pub(super) struct Begun {
    pub(super) head: AnswerHead,
    pub(super) framing: Framing,
    /// Whether the connection can carry another call after this answer.
    pub(super) is_lasting: bool,
}

/// Why what came is no answer that could be passed on.
#[derive(Debug, thiserror::Error)]
pub enum MalformedAnswer {
    /// Its head is no HTTP.
    #[error(transparent)]
    Head(#[from] httparse::Error),
    /// Its head is too long.
    #[error("its header is too large")]
    TooLarge,
    /// It is of HTTP/1.0.
    #[error("it is not of HTTP/1.1")]
    Version,
    /// It does not say once, and clearly, where it ends (RFC 9112 section 6.3): a node always does.
    #[error("it does not say where it ends")]
    Unbounded,
    /// It says that it comes in chunks, and does not.
    #[error(transparent)]
    Chunked(#[from] actix_http::error::ParseError),
}

impl AnswerHead {
    /// The first value of a field. The name is without regard to case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.only(name).0
    }

    /// The same, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The same, to be sent on.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<HeaderValue> {
        let value = self.bytes.slice_ref(self.get(name)?);
        HeaderValue::from_maybe_shared(value).ok()
    }

    /// Its value, and whether there is another one.
    fn only(&self, name: &str) -> (Option<&[u8]>, bool) {
        let fields = self.fields.iter().take(self.count);
        let is_it = |field: &Span| self.part(*field).eq_ignore_ascii_case(name.as_bytes());
        let mut found = fields.filter(|(field, _)| is_it(field));
        let first = found.next().map(|(_, value)| self.part(*value));
        (first, found.next().is_some())
    }

    fn part(&self, span: Span) -> &[u8] {
        let range = span.from as usize..span.to as usize;
        self.bytes.get(range).unwrap_or_default()
    }

    /// How its body ends; nothing if that is not said, or said twice.
    fn length(&self) -> Option<BodyLength> {
        let (length, has_second_length) = self.only("content-length");
        let (encoding, has_second_encoding) = self.only("transfer-encoding");
        let is_bodiless = self.status.is_informational()
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if has_second_length || has_second_encoding {
            return None;
        }
        match (length, encoding) {
            (Some(digits), None) => {
                let is_number = (1..=18).contains(&digits.len());
                let is_number = is_number && digits.iter().all(u8::is_ascii_digit);
                let number = std::str::from_utf8(digits).ok()?.parse();
                let length = number.ok().filter(|_| is_number)?;
                Some(BodyLength::Bytes(if is_bodiless { 0 } else { length }))
            }
            (None, None) if is_bodiless => Some(BodyLength::Bytes(0)),
            (None, Some(encoding)) if !is_bodiless => encoding
                .eq_ignore_ascii_case(b"chunked")
                .then_some(BodyLength::Chunked),
            _ => None,
        }
    }
}

enum BodyLength {
    Bytes(u64),
    Chunked,
}

/// Takes the head of an answer off what was read; nothing while it has not come whole.
///
/// # Errors
/// [`MalformedAnswer`].
pub(super) fn begin(
    read: &mut BytesMut,
    codec: impl FnOnce() -> ClientCodec,
) -> Result<Option<Begun>, MalformedAnswer> {
    let mut parsed = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = Response::new(&mut []);
    let found = ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        read,
        &mut parsed,
    )?;
    let size = match found {
        Status::Complete(size) if size <= MAX_HEAD_BYTES => size,
        Status::Partial if read.len() <= MAX_HEAD_BYTES => return Ok(None),
        _ => return Err(MalformedAnswer::TooLarge),
    };
    if response.version != Some(1) {
        return Err(MalformedAnswer::Version);
    }
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    let mut head = AnswerHead {
        status: status.ok_or(httparse::Error::Status)?,
        bytes: Bytes::new(),
        fields: [(Span::default(), Span::default()); MAX_FIELDS],
        count: response.headers.len(),
    };
    let start = read.as_ptr() as usize;
    for (field, place) in response.headers.iter().zip(&mut head.fields) {
        let span = |part: &[u8]| {
            let from = part.as_ptr() as usize - start;
            // All of it is within `MAX_HEAD_BYTES`.
            let ends = (u16::try_from(from), u16::try_from(from + part.len()));
            match ends {
                (Ok(from), Ok(to)) => Span { from, to },
                _ => Span::default(),
            }
        };
        *place = (span(field.name.as_bytes()), span(field.value));
    }
    // A copy while a codec may still have to read it.
    head.bytes = Bytes::copy_from_slice(read.get(..size).unwrap_or_default());
    let framing = match head.length().ok_or(MalformedAnswer::Unbounded)? {
        BodyLength::Bytes(length) => {
            drop(read.split_to(size));
            Framing::Left(length)
        }
        BodyLength::Chunked => {
            let mut codec = codec();
            codec.decode(read)?;
            Framing::Chunked(Box::new(codec.into_payload_codec()))
        }
    };
    let is_lasting = !head.status.is_informational() && head.get("connection").is_none();
    Ok(Some(Begun {
        head,
        framing,
        is_lasting,
    }))
}
