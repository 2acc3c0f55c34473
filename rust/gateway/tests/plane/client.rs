//! A client that sends exactly the bytes it is given.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

/// The chunks of a response, one by one.
pub(crate) struct Chunks<'a> {
    client: &'a mut Client,
    pub(crate) head: String,
}

impl Chunks<'_> {
    /// The next chunk; none at the body's end.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.client.line().expect("a line"), 16).expect("a chunk's size");
        let mut chunk = vec![0; size];
        self.client.reader.read_exact(&mut chunk).expect("a chunk");
        assert_eq!(self.client.line().expect("the chunk's end"), "");
        (size > 0).then_some(chunk)
    }
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line.
    pub(crate) first: String,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("time-out");
        stream.set_nodelay(true).expect("no delay");
        Client { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.try_send(bytes).expect("send");
        self
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).response()
    }

    /// The next response to a request other than HEAD.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response(false).expect("a response")
    }

    /// The next response, whose body comes in chunks.
    pub(crate) fn chunks(&mut self) -> Chunks<'_> {
        let mut head = String::new();
        while !head.ends_with("\n\n") {
            head += &self.line().expect("a head");
            head.push('\n');
        }
        Chunks { client: self, head }
    }

    pub(crate) fn head_response(&mut self) -> Response {
        self.try_response(true).expect("a response")
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("ends with {line:?}"))),
        }
    }

    pub(crate) fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let first = self.line()?;
        let (version, rest) = first.split_once(' ').expect("a status line");
        let status = rest[..3].parse().expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field: {line:?}"));
            headers.push((name.to_owned(), value.to_owned()));
        }
        let version = version.to_owned();
        let mut response = Response { status, first, version, headers, body: Vec::new() };
        if to_head || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).expect("a chunk's size");
                let mut chunk = vec![0; size];
                self.reader.read_exact(&mut chunk)?;
                assert_eq!(self.line()?, "");
                if size == 0 {
                    break;
                }
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse().expect("a length")];
            self.reader.read_exact(&mut response.body)?;
        } else {
            self.reader.read_to_end(&mut response.body)?;
        }
        Ok(response)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }

    /// Whatever comes until the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).map(|_| rest)
    }

    /// Asserts that nothing but the end comes.
    pub(crate) fn assert_closed(&mut self) {
        match self.rest() {
            Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}
