//! What handlers can do, by the client that plugin authors use.

use nylon_plugin::testing::PluginClient;
use nylon_plugin::{Context, ErrorKind, Plugin, Result, json};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn client(plugin: Plugin) -> PluginClient {
    PluginClient::new(plugin).expect("a good plugin")
}

fn one(handler: impl Fn(&mut Context) -> Result + Send + Sync + 'static) -> PluginClient {
    client(Plugin::new().request_filter("one", handler))
}

#[test]
fn a_request_is_read_whole() {
    let client = client(Plugin::new().request_filter_with_body("read", |ctx| {
        let request = ctx.request();
        ctx.response().body_json(&json!({
            "method": request.method()?.as_str(),
            "path": request.path()?,
            "query": request.query()?,
            "query_params": request.query_params()?,
            "url": request.url()?,
            "host": request.host()?,
            "scheme": request.scheme()?,
            "version": request.http_version()?,
            "ip": request.client_ip()?.to_string(),
            "params": request.params()?,
            "cookies": request.cookies()?,
            "bytes": request.bytes()?,
            "body": request.json::<Value>()?,
            "payload": ctx.payload::<Value>()?,
            "many": request.header("x-many")?.expect("it was sent").to_str()?,
            "empty": request.header("X-Empty")?.map(|value| value.len()),
            "missing": request.header("x-missing")?.is_none(),
            "raw": request.headers()?["x-raw"].as_bytes(),
            "id": ctx.request_id()?.len(),
            "attempt": ctx.attempt()?,
            "entry": ctx.entry(),
            "phase": ctx.phase().name(),
        }))?;
        ctx.end()
    }));
    let answer = client
        .post("/a%20b?x=1&y=%20z", r#"{"n":1}"#)
        .header("x-many", "a")
        .header("x-many", "b")
        .header("x-empty", "")
        .header("x-raw", b"\xff")
        .header("cookie", "a=1; b=x=y")
        .param("name", "n")
        .payload(&json!([1, null]))
        .client_ip([10, 0, 0, 1])
        .send("read");
    assert_eq!(answer.failures.get("request_filter"), None);
    assert_eq!(answer.headers["content-type"], "application/json");
    let expected = json!({
        "method": "POST", "path": "/a%20b", "query": "x=1&y=%20z", "query_params": [["x", "1"], ["y", " z"]],
        "url": "http://test.example/a%20b?x=1&y=%20z", "host": "test.example", "scheme": "http", "version": "1.1",
        "ip": "10.0.0.1", "params": {"name": "n"}, "cookies": {"a": "1", "b": "x=y"}, "bytes": 7, "body": {"n": 1},
        "payload": [1, null], "many": "a, b", "empty": 0, "missing": true, "raw": [255], "id": 32, "attempt": 1,
        "entry": "read", "phase": "request_filter",
    });
    assert_eq!(answer.json::<Value>(), expected);
}

#[test]
fn a_request_is_changed_and_read_back() {
    let client = one(|ctx| {
        let request =
            ctx.request().set_method("PUT")?.set_path("/new")?.set_query("q=1")?.set_body("body")?;
        request.set_header("X-Set", "1")?.add_header("x-added", "2")?.remove_header("x-removed")?;
        request.set_header("x-back", format!("{} {}", request.path()?, request.headers()?.len()))?;
        ctx.next()
    });
    let answer = client.get("/old").header("x-added", "1").header("x-removed", "1").send("one");
    let forwarded = answer.forwarded.expect("it went on");
    assert_eq!(
        (forwarded.method.as_str(), forwarded.path.as_str(), forwarded.query.as_str()),
        ("PUT", "/new", "q=1")
    );
    assert_eq!(forwarded.body, b"body");
    assert_eq!(forwarded.headers["x-set"], "1");
    assert_eq!(forwarded.headers.get_all("x-added").iter().count(), 2);
    assert!(!forwarded.headers.contains_key("x-removed"));
    assert_eq!(forwarded.headers["x-back"], "/new 3");
}

#[test]
fn the_first_decision_wins_and_a_second_one_fails_the_handler() {
    let client = client(
        Plugin::new()
            .request_filter("forgotten-return", |ctx| {
                ctx.end()?;
                ctx.next()
            })
            .request_filter("caught", |ctx| {
                ctx.response().set_status(403)?;
                ctx.end()?;
                assert_eq!(ctx.next().expect_err("a second decision").kind(), ErrorKind::Decided);
                Ok(())
            }),
    );
    let failed = client.get("/").send("forgotten-return");
    assert_eq!(failed.status, 500);
    assert!(failed.forwarded.is_none());
    assert!(failed.failures["request_filter"].contains("already decided End"));
    assert_eq!(client.get("/").send("caught").status, 403);
}

#[test]
fn nothing_of_a_handler_that_fails_stays() {
    let handlers = Plugin::new()
        .request_filter("undecided", |ctx| {
            ctx.request().set_header("x-changed", "1")?;
            Ok(())
        })
        .request_filter("error", |ctx| {
            ctx.state::<u32>();
            *ctx.state::<u32>() = 1;
            ctx.next()?;
            ctx.request().set_header("x-changed", "\n")?;
            Ok(())
        })
        .logging("error", |ctx| {
            assert_eq!(*ctx.state::<u32>(), 0);
            assert!(ctx.response().error()?.expect("why").contains("header value"));
            Ok(())
        })
        .request_filter("panic", |ctx| {
            ctx.next()?;
            assert_ne!(ctx.entry(), "panic", "the secret of the panic");
            Ok(())
        })
        .request_filter("too-long", |ctx| {
            // Nobody but the gateway knows how much is too much.
            ctx.request().set_path(format!("/{}", "x".repeat(70_000)))?;
            ctx.next()
        });
    let client = client(handlers);
    let why = |entry: &str| {
        let answer = client.get("/").send(entry);
        assert_eq!(answer.status, 500, "{entry}");
        assert!(answer.forwarded.is_none(), "{entry}");
        assert_eq!(answer.failures.len(), 1, "{:?}", answer.failures);
        answer.failures["request_filter"].clone()
    };
    assert_eq!(why("undecided"), "the handler returned without ctx.next() or ctx.end()");
    assert!(why("error").contains("header value"));
    let panic = why("panic");
    assert!(panic.starts_with("panicked at ") && panic.contains("handlers.rs:"), "{panic}");
    assert!(panic.contains("the secret of the panic"), "{panic}");
    assert!(why("too-long").contains("is not valid"));
}

#[test]
fn what_a_phase_does_not_allow_is_refused() {
    let refused =
        |done: Result<_>| assert_eq!(done.map(|_| ()).expect_err("too late").kind(), ErrorKind::Phase);
    let client = client(
        Plugin::new()
            .request_filter("body", |ctx| {
                assert_eq!(ctx.request().body().expect_err("not declared").kind(), ErrorKind::Body);
                assert_eq!(ctx.chunk().expect_err("no chunk").kind(), ErrorKind::Phase);
                ctx.next()
            })
            .response_filter("body", move |ctx| {
                refused(ctx.request().set_path("/").map(|_| ()));
                refused(ctx.response().stream().map(|_| ()));
                ctx.response().set_status(418)?;
                Ok(())
            })
            .response_body_filter_by_chunk("body", move |ctx| {
                refused(ctx.response().set_status(500).map(|_| ()));
                Ok(())
            })
            .logging("body", move |ctx| {
                refused(ctx.response().body_raw("").map(|_| ()));
                Ok(())
            }),
    );
    let answer = client.get("/").upstream(200, "body").send("body");
    assert!(answer.failures.is_empty(), "{:?}", answer.failures);
    assert_eq!((answer.status.as_u16(), answer.text()), (418, "body"));
}

#[test]
fn the_content_type_follows_the_body_unless_it_was_chosen() {
    let client = one(|ctx| {
        let response = ctx.response();
        match ctx.request().path()?.as_str() {
            "/text" => response.body_text("a")?,
            "/html" => response.body_html("a")?,
            "/raw" => response.body_raw("a")?,
            "/own" => response.set_header("Content-Type", "a/b")?.body_json(&1)?,
            _ => response.redirect_with("https://a.example/caf\u{e9}?a=b%20c d", 303)?,
        };
        ctx.end()
    });
    let content_type = |path| client.get(path).send("one").headers.get("content-type").cloned();
    assert_eq!(content_type("/text").expect("type"), "text/plain; charset=utf-8");
    assert_eq!(content_type("/html").expect("type"), "text/html; charset=utf-8");
    assert_eq!(content_type("/own").expect("type"), "a/b");
    assert_eq!(content_type("/raw"), None);
    let redirected = client.get("/there").send("one");
    assert_eq!(redirected.status, 303);
    assert_eq!(redirected.headers["location"], "https://a.example/caf%C3%A9?a=b%20c%20d");
}

#[test]
fn values_that_are_not_legal_are_refused_where_they_are_set() {
    let client = one(|ctx| {
        let (request, response) = (ctx.request(), ctx.response());
        let refused = [
            request.set_method("GET /x").map(|_| ()),
            request.set_method("CONNECT").map(|_| ()),
            request.set_path("x").map(|_| ()),
            request.set_path("/x?y").map(|_| ()),
            request.set_query("a\r\nb").map(|_| ()),
            request.set_header("x a", "b").map(|_| ()),
            request.add_header("x-a", "a\r\nb").map(|_| ()),
            response.set_header("x-a", b"a\0").map(|_| ()),
            response.set_status(99).map(|_| ()),
            response.set_status(101).map(|_| ()),
            response.set_status(600).map(|_| ()),
            response.redirect_with("/", 200).map(|_| ()),
        ];
        let kinds = refused.map(|done| done.map_err(|error| error.kind()));
        assert_eq!(kinds, [Err(ErrorKind::Invalid); 12]);
        ctx.next()
    });
    assert_eq!(client.get("/").send("one").failures.get("request_filter"), None);
}

#[test]
fn closures_and_state_live_from_phase_to_phase() {
    #[derive(Clone, Default)]
    struct Count(u32);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let logged = seen.clone();
    let client = client(
        Plugin::new()
            .entry("closure", move |session| {
                let phases = Arc::new(Mutex::new(Vec::new()));
                let mine = phases.clone();
                session.request_filter(move |ctx| {
                    mine.lock().expect("lock").push(ctx.request().path()?);
                    ctx.next()
                });
                let mine = phases.clone();
                session.response_body_filter(move |ctx| {
                    let phases = mine.lock().expect("lock").clone();
                    ctx.response().body_json(&phases)?;
                    Ok(())
                });
                let all = logged.clone();
                session.logging(move |_| all.lock().expect("lock").push(phases.lock().expect("lock").len()));
            })
            .request_filter("state", |ctx| {
                ctx.state::<Count>().0 += 1;
                ctx.next()
            })
            .response_filter("state", |ctx| {
                ctx.state::<Count>().0 += 1;
                let count = ctx.state::<Count>().0;
                ctx.response().set_header("x-count", count.to_string())?;
                Ok(())
            }),
    );
    assert_eq!(client.get("/1").send("closure").json::<Vec<String>>(), ["/1"]);
    assert_eq!(client.get("/2").send("closure").json::<Vec<String>>(), ["/2"]);
    assert_eq!(*seen.lock().expect("lock"), [1, 1]);
    for _ in 0..2 {
        assert_eq!(client.get("/").send("state").headers["x-count"], "2");
    }
}

#[test]
fn a_body_is_filtered_whole_or_by_chunk() {
    let client = client(
        Plugin::new()
            .response_body_filter("whole", |ctx| {
                let body = ctx.response().body()?;
                ctx.response().body_raw(body.to_ascii_uppercase())?;
                Ok(())
            })
            .response_body_filter_by_chunk("chunks", |ctx| {
                let chunk = ctx.chunk()?;
                let end = if chunk.end_of_stream { "!" } else { "|" };
                ctx.set_chunk([&chunk.data, end.as_bytes()].concat())
            }),
    );
    assert_eq!(client.get("/").upstream(200, "body").send("whole").text(), "BODY");
    assert_eq!(client.get("/").upstream(200, "abcde").chunks_of(2).send("chunks").text(), "ab|cd|e!");
    assert_eq!(client.get("/").send("chunks").text(), "!");
}

#[test]
fn a_stream_is_an_end() {
    let client = client(
        Plugin::new()
            .request_filter("stream", |ctx| {
                let mut stream = ctx.response().set_status(201)?.stream()?;
                stream.write("a")?;
                assert_eq!(ctx.next().expect_err("decided").kind(), ErrorKind::Decided);
                assert_eq!(ctx.request().set_path("/").expect_err("begun").kind(), ErrorKind::Phase);
                stream.write("b")?;
                stream.end()
            })
            .request_filter("unended", |ctx| ctx.response().stream()?.write("a")),
    );
    let answer = client.get("/").send("stream");
    assert_eq!((answer.status.as_u16(), answer.text()), (201, "ab"));
    assert!(client.get("/").send("unended").failures["request_filter"].contains("end()"));
}

#[test]
fn a_deferred_phase_is_finished_from_another_thread() {
    fn later(ctx: &mut Context, finish: impl FnOnce(nylon_plugin::Deferred) + Send + 'static) -> Result {
        let deferred = ctx.defer()?;
        assert_eq!(ctx.request().path().expect_err("given away").kind(), ErrorKind::Closed);
        assert_eq!(ctx.next().expect_err("given away").kind(), ErrorKind::Closed);
        thread::spawn(move || finish(deferred));
        Ok(())
    }
    let plugin = Plugin::new()
        .request_filter("body", |ctx| {
            later(ctx, |deferred| {
                deferred.run(|ctx| {
                    let body = ctx.request().body()?;
                    ctx.request().set_header("x-size", body.len().to_string())?;
                    ctx.next()
                });
            })
        })
        .request_filter("next", |ctx| later(ctx, |deferred| deferred.next().expect("first")))
        .request_filter("end", |ctx| {
            later(ctx, |deferred| {
                deferred.response().set_status(403).expect("open");
                deferred.end().expect("first");
            })
        })
        .request_filter("fail", |ctx| later(ctx, |deferred| deferred.fail("not today")))
        .request_filter("panic", |ctx| {
            later(ctx, |deferred| deferred.run(|_| -> Result { panic!("over there") }))
        })
        .request_filter("dropped", |ctx| later(ctx, drop))
        .request_filter("thread-panics", |ctx| {
            later(ctx, |_deferred| std::panic::resume_unwind(Box::new("no message")))
        })
        .request_filter("at-once", |ctx| ctx.defer()?.next())
        .request_filter("fails-after", |ctx| {
            ctx.defer()?.next()?;
            Err("after all".into())
        });
    let client = client(plugin);
    let failure = |entry: &str| client.get("/").send(entry).failures["request_filter"].clone();
    let body = client.post("/", "12345").send("body");
    assert_eq!(body.forwarded.expect("it went on").headers["x-size"], "5");
    assert!(client.get("/").send("next").forwarded.is_some());
    assert_eq!(client.get("/").send("end").status, 403);
    assert_eq!(failure("fail"), "not today");
    assert!(failure("panic").contains("over there"));
    assert!(failure("dropped").contains("without ctx.next()"));
    assert!(failure("thread-panics").contains("thread"));
    assert!(client.get("/").send("at-once").forwarded.is_some());
    assert_eq!(failure("fails-after"), "after all");
}

#[test]
fn a_phase_whose_time_is_over_is_closed_to_its_deferred() {
    let (told, closed) = std::sync::mpsc::channel();
    let told = Mutex::new(told);
    let client = one(move |ctx| {
        let deferred = ctx.defer()?;
        let told = told.lock().expect("lock").clone();
        thread::spawn(move || {
            while !deferred.is_closed() {
                thread::yield_now();
            }
            let kinds = [
                deferred.request().path().map(|_| ()).expect_err("closed").kind(),
                deferred.request().set_path("/").map(|_| ()).expect_err("closed").kind(),
                deferred.next().expect_err("closed").kind(),
            ];
            told.send(kinds).expect("the test waits");
        });
        Ok(())
    });
    let answer = client.get("/").timeout(Duration::from_millis(20)).send("one");
    assert!(answer.failures["request_filter"].contains("no decision"));
    let kinds = closed.recv_timeout(Duration::from_secs(20)).expect("the thread's errors");
    assert_eq!(kinds, [ErrorKind::Closed; 3]);
}

#[test]
fn a_plugin_that_contradicts_itself_is_not_loaded() {
    let why = |plugin: Plugin| PluginClient::new(plugin).map(drop).expect_err("a problem").to_string();
    let twice = || Plugin::new().request_filter("a", |ctx| ctx.next()).request_filter("a", |ctx| ctx.next());
    assert!(why(twice()).contains("request_filter of the entry \"a\" is registered twice"));
    assert!(why(Plugin::new().entry("a", |_| ()).logging("a", |_| ())).contains("registered twice"));
    let setup = Plugin::new().entry("a", |_| -> Result { Err("no luck".into()) });
    assert_eq!(why(setup), "the setup of the entry \"a\" failed: no luck");
}

#[test]
fn a_setup_that_fails_later_fails_its_requests_only() {
    let runs = Arc::new(Mutex::new(0));
    let client = client(
        Plugin::new()
            .entry("late", move |session| -> Result {
                session.request_filter(|ctx| ctx.next());
                let mut runs = runs.lock().expect("lock");
                *runs += 1;
                match *runs {
                    1 | 4 => Ok(()),
                    2 => Err("no luck".into()),
                    _ => {
                        session.logging(|_| ());
                        Ok(())
                    }
                }
            })
            .request_filter("fine", |ctx| ctx.next()),
    );
    assert!(client.get("/").send("late").failures["request_filter"].contains("no luck"));
    assert!(client.get("/").send("late").failures["request_filter"].contains("logging"));
    assert!(client.get("/").send("late").forwarded.is_some());
    assert!(client.get("/").send("fine").forwarded.is_some());
}
