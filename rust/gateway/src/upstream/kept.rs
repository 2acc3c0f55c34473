//! A client's body whose beginning is kept until there is a response.
//!
//! A service may say that it did nothing with a request (RFC 9113, 8.7), for one because its connection is about to
//! close. Such a request may go out again, but its body has been read from the client by then. So the first bytes stay
//! here, enough for most calls of gRPC; a request that was longer so far fails instead.

use super::trailers;
use crate::downstream::{ClientBody, ClientBodyError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes that are kept of one body.
const MOST: usize = 64 * 1024;

/// A body that may be read more than once.
#[derive(Clone)]
pub(super) struct Kept(Rc<RefCell<Beginning>>);

struct Beginning {
    client: ClientBody,
    /// What came so far, as long as it is kept; else what is still to be read of it.
    pieces: VecDeque<Bytes>,
    /// The first of them that the current reading has not had.
    next: usize,
    length: usize,
    keeps: bool,
    ended: bool,
    /// The reading that counts: an earlier attempt may not be over.
    reading: u32,
}

/// One way through the body.
pub(super) struct Reading {
    body: Rc<RefCell<Beginning>>,
    number: u32,
}

impl Kept {
    pub(super) fn new(client: ClientBody) -> Kept {
        Kept(Rc::new(RefCell::new(Beginning {
            client,
            pieces: VecDeque::new(),
            next: 0,
            length: 0,
            keeps: true,
            ended: false,
            reading: 0,
        })))
    }

    /// Reads from the beginning. Whoever read before gets no more.
    pub(super) fn read(&self) -> Reading {
        let mut body = self.0.borrow_mut();
        body.reading += 1;
        body.next = 0;
        Reading { body: self.0.clone(), number: body.reading }
    }

    /// Whether the beginning is still here.
    pub(super) fn is_whole(&self) -> bool {
        self.0.borrow().keeps
    }

    /// Nobody will read from the beginning any more.
    pub(super) fn let_go(&self) {
        self.0.borrow_mut().let_go();
    }
}

impl Beginning {
    fn let_go(&mut self) {
        if std::mem::take(&mut self.keeps) {
            self.pieces.drain(..self.next);
            self.next = 0;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        if let Some(piece) = self.pieces.get(self.next).cloned() {
            match self.keeps {
                true => self.next += 1,
                false => drop(self.pieces.pop_front()),
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut self.client).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.length += data.len();
                if self.keeps && self.length <= MOST {
                    self.pieces.push_back(data.clone());
                    self.next += 1;
                } else {
                    self.let_go();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => {
                // They end what is sent, and it is not sent twice: one could not tell the two apart.
                self.let_go();
                self.ended = true;
                Poll::Ready(Some(Ok(trailers::cleaned(frame))))
            }
        }
    }
}

impl Reading {
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let mut body = self.body.borrow_mut();
        match body.reading == self.number {
            true => body.poll(cx),
            false => Poll::Ready(None),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let body = self.body.borrow();
        body.next >= body.pieces.len() && (body.ended || body.client.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let body = self.body.borrow();
        let ahead: usize = body.pieces.iter().skip(body.next).map(Bytes::len).sum();
        let rest = body.client.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead as u64);
        }
        hint
    }
}
