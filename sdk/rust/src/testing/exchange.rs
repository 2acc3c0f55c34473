//! The request and response of a test, as the messages of the ABI read and change them.

use crate::phase::Phase;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nylon_abi::{fields, method};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A request as it reaches the service.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its query, empty where there is none.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) chunk: Option<(Vec<u8>, bool)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Forwarded,
    pub(crate) response: Reply,
    pub(crate) payload: Vec<u8>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) client_ip: IpAddr,
    pub(crate) phase: Option<Phase>,
    pub(crate) error: Option<String>,
    url: String,
}

const HOST: &str = "test.example";

impl Exchange {
    pub(crate) fn new(method: Method, target: &str) -> Exchange {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static(HOST))]);
        let request =
            Forwarded { method, path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() };
        Exchange {
            request,
            response: Reply::default(),
            payload: Vec::new(),
            params: BTreeMap::new(),
            client_ip: IpAddr::from([127, 0, 0, 1]),
            phase: None,
            error: None,
            url: format!("http://{HOST}{target}"),
        }
    }

    /// What a read is answered with; `None` where the number is no read.
    pub(crate) fn read(&self, number: u32, payload: &[u8]) -> Option<Vec<u8>> {
        let (request, response) = (&self.request, &self.response);
        let logging = self.phase == Some(Phase::Logging);
        Some(match number {
            method::GET_PAYLOAD => self.payload.clone(),
            method::READ_REQUEST_FULL_BODY => request.body.clone(),
            method::READ_REQUEST_HEADER => joined(&request.headers, payload),
            method::READ_REQUEST_HEADERS => listed(&request.headers),
            method::READ_REQUEST_URL => self.url.clone().into(),
            method::READ_REQUEST_PATH => request.path.clone().into(),
            method::READ_REQUEST_QUERY => request.query.clone().into(),
            method::READ_REQUEST_PARAMS => serde_json::to_vec(&self.params).unwrap_or_default(),
            method::READ_REQUEST_HOST => HOST.into(),
            method::READ_REQUEST_CLIENT_IP => self.client_ip.to_string().into(),
            method::READ_REQUEST_METHOD => request.method.as_str().into(),
            method::READ_REQUEST_BYTES => request.body.len().to_string().into(),
            method::READ_REQUEST_TIMESTAMP => b"1700000000000".to_vec(),
            method::READ_REQUEST_ID => b"00000000000000000000000000000000".to_vec(),
            method::READ_REQUEST_SCHEME => b"http".to_vec(),
            method::READ_REQUEST_HTTP_VERSION => b"1.1".to_vec(),
            method::READ_ATTEMPT => b"1".to_vec(),
            method::READ_RESPONSE_FULL_BODY => response.body.clone(),
            method::READ_RESPONSE_STATUS => response.status.as_str().into(),
            method::READ_RESPONSE_BYTES => response.body.len().to_string().into(),
            method::READ_RESPONSE_HEADER => joined(&response.headers, payload),
            method::READ_RESPONSE_HEADERS => listed(&response.headers),
            method::READ_RESPONSE_DURATION if logging => b"1".to_vec(),
            method::READ_RESPONSE_DURATION => Vec::new(),
            method::READ_RESPONSE_ERROR => self.error.clone().unwrap_or_default().into(),
            method::READ_RESPONSE_CHUNK => match &response.chunk {
                Some((data, last)) => [&[u8::from(*last)], data.as_slice()].concat(),
                None => Vec::new(),
            },
            _ => return None,
        })
    }

    /// Makes a change; an error says why the phase fails.
    pub(crate) fn change(&mut self, number: u32, payload: &[u8]) -> Result<(), String> {
        let (request, response) = (&mut self.request, &mut self.response);
        let text = || String::from_utf8(payload.to_vec()).map_err(|_| format!("{number}: not UTF-8"));
        match number {
            method::SET_REQUEST_METHOD => {
                request.method =
                    Method::from_bytes(payload).map_err(|_| format!("no method: {payload:?}"))?;
            }
            method::SET_REQUEST_PATH => {
                let path = text()?;
                if !path.starts_with('/') || path.contains('?') || path.parse::<PathAndQuery>().is_err() {
                    return Err(format!("path {path:?} is not valid"));
                }
                request.path = path;
            }
            method::SET_REQUEST_QUERY => {
                let query = text()?;
                if format!("/?{query}").parse::<PathAndQuery>().is_err() {
                    return Err(format!("query {query:?} is not valid"));
                }
                request.query = query;
            }
            method::SET_REQUEST_BODY => request.body = payload.to_vec(),
            method::SET_REQUEST_HEADER => insert(&mut request.headers, payload, true)?,
            method::ADD_REQUEST_HEADER => insert(&mut request.headers, payload, false)?,
            method::REMOVE_REQUEST_HEADER => drop(request.headers.remove(text()?)),
            method::SET_RESPONSE_HEADER => insert(&mut response.headers, payload, true)?,
            method::ADD_RESPONSE_HEADER => insert(&mut response.headers, payload, false)?,
            method::REMOVE_RESPONSE_HEADER => drop(response.headers.remove(text()?)),
            method::SET_RESPONSE_FULL_BODY => response.body = payload.to_vec(),
            method::SET_RESPONSE_STREAM_DATA => response.body.extend_from_slice(payload),
            method::SET_RESPONSE_STREAM_HEADER => response.body.clear(),
            method::SET_RESPONSE_STATUS => {
                let code = payload.try_into().map(u16::from_be_bytes).unwrap_or(0);
                response.status =
                    StatusCode::from_u16(code).map_err(|_| format!("no status: {payload:?}"))?;
            }
            method::SET_RESPONSE_CHUNK => {
                if let Some((data, _)) = &mut response.chunk {
                    *data = payload.to_vec();
                }
            }
            _ => return Err(format!("the number {number} is not known")),
        }
        Ok(())
    }
}

fn insert(headers: &mut HeaderMap, payload: &[u8], replace: bool) -> Result<(), String> {
    let field = fields::decode_field(payload).ok().and_then(|(name, value)| {
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    let (name, value) = field.ok_or_else(|| format!("no header: {payload:?}"))?;
    if replace {
        headers.insert(name, value);
    } else {
        headers.append(name, value);
    }
    Ok(())
}

fn joined(headers: &HeaderMap, name: &[u8]) -> Vec<u8> {
    let Ok(name) = HeaderName::from_bytes(name) else { return Vec::new() };
    if name == http::header::SET_COOKIE {
        // It cannot be joined: the first one.
        return headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    }
    let between: &[u8] = if name == http::header::COOKIE { b"; " } else { b", " };
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(between)
}

fn listed(headers: &HeaderMap) -> Vec<u8> {
    let mut list = Vec::new();
    for name in headers.keys() {
        if *name == http::header::SET_COOKIE {
            list.extend(headers.get_all(name).iter().map(|value| (name, value.as_bytes().to_vec())));
        } else {
            list.push((name, joined(headers, name.as_str().as_bytes())));
        }
    }
    let fields: Vec<fields::Field<'_>> =
        list.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_slice())).collect();
    fields::encode_fields(fields)
}
