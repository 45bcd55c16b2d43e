//! The sockets: TLS with our own authority, limits on who may keep us waiting, an end in order; metrics
//! and health.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, StatusCode};
use sallyport_control::{
    audit,
    kernel::{clock::SystemClock, control::Control, health, listener},
    routes, secret,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::home::Home;

struct Served {
    home: Home,
    control: Control,
    api: std::net::SocketAddr,
    health: String,
    serving: JoinHandle<()>,
}

impl Served {
    async fn start(connections_max: u32) -> Self {
        health::install_recorder();
        let home = Home::sqlite();
        let mut config = home.config();
        config.listen.api = ([127, 0, 0, 1], 0).into();
        config.listen.health = ([127, 0, 0, 1], 0).into();
        config.listen.names = vec!["sallyport.example".to_owned()];
        config.listen.connections_max = connections_max;
        config.listen.handshake_timeout = Duration::from_secs(1);
        config.listen.shutdown_grace = Duration::from_secs(1);
        let control = Control::open(config, Arc::new(SystemClock::default()))
            .await
            .unwrap();
        let listeners = listener::bind(&control).await.unwrap();
        let (api, health) = listeners.addresses().unwrap();
        let serving = {
            let control = control.clone();
            tokio::spawn(async move { listeners.serve(routes::all(), control).await.unwrap() })
        };
        Self {
            home,
            control,
            api,
            health: format!("http://{health}"),
            serving,
        }
    }

    fn authority(&self) -> Certificate {
        Certificate::from_pem(&fs::read(self.home.data().join("ca.pem")).unwrap()).unwrap()
    }

    fn client(&self) -> Client {
        Client::builder()
            .tls_certs_only([self.authority()])
            .resolve("sallyport.example", self.api)
            .build()
            .unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.api.port())
    }

    async fn health(&self, path: &str) -> (StatusCode, String) {
        let answer = reqwest::get(format!("{}{path}", self.health))
            .await
            .unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

/// OP-1: clients that pin our authority reach us by every configured name, and others do not trust us.
#[tokio::test]
async fn given_our_own_authority_then_it_vouches_for_our_names_and_nothing_else_does() {
    let served = Served::start(100).await;
    let client = served.client();
    for host in ["localhost", "127.0.0.1", "sallyport.example"] {
        let url = format!("https://{host}:{}/v1/openapi.json", served.api.port());
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{host}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(answer.headers()[name], value);
        }
    }
    let stranger = Client::builder().tls_certs_only([]).build().unwrap();
    assert!(
        stranger
            .get(served.url("/v1/openapi.json"))
            .send()
            .await
            .is_err()
    );
    assert!(
        reqwest::get(format!("http://{}/v1/openapi.json", served.api))
            .await
            .is_err()
    );

    let key = fs::metadata(served.home.data().join("tls/ca.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let first = fs::read(served.home.data().join("ca.pem")).unwrap();
    listener::bind(&served.control).await.unwrap();
    assert_eq!(
        fs::read(served.home.data().join("ca.pem")).unwrap(),
        first,
        "made once"
    );
}

/// OP-1: whoever connects and says nothing is put out, and until then keeps one place only.
#[tokio::test]
async fn given_silent_clients_in_every_place_then_they_are_put_out_and_others_are_served() {
    let served = Served::start(2).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(served.api).await.unwrap());
    }
    let answer = tokio::time::timeout(
        Duration::from_secs(10),
        served.client().get(served.url("/v1/openapi.json")).send(),
    );
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        ended.await.unwrap().ok();
    }
}

/// OP-1: bodies have an end.
#[tokio::test]
async fn given_a_body_larger_than_a_mebibyte_then_it_is_refused() {
    let served = Served::start(100).await;
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    let answer = served
        .client()
        .post(served.url("/v1/sign-in"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let form = served
        .client()
        .post(served.url("/v1/sign-in"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("{}")
        .send()
        .await
        .unwrap();
    let problem: serde_json::Value = form.json().await.unwrap();
    assert_eq!(problem["field"], "Content-Type");
}

/// OP-1: stopping lets go of idle connections and ends.
#[tokio::test]
async fn given_idle_connections_when_stopped_then_serving_ends() {
    let served = Served::start(100).await;
    let client = served.client();
    client
        .get(served.url("/v1/openapi.json"))
        .send()
        .await
        .unwrap();
    let _silent = TcpStream::connect(served.api).await.unwrap();
    served.control.stop();
    tokio::time::timeout(Duration::from_secs(10), served.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(
        client
            .get(format!("https://localhost:{}/", served.api.port()))
            .send()
            .await
            .is_err()
    );
}

/// MO-2: whoever asks whether we are ready hears what is missing, and nothing about people.
#[tokio::test]
async fn given_a_node_that_is_not_ready_then_readyz_says_why_until_it_is() {
    let served = Served::start(100).await;
    assert_eq!(
        served.health("/healthz").await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    let (status, why) = served.health("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("the vault is not initialised"), "{why}");
    let following = audit::start(&served.control).await.unwrap();
    let key_file = served.home.data().join("vault.key");
    secret::workflow::open_with_key_file(&served.control, &key_file)
        .await
        .unwrap();
    let (_, why) = served.health("/readyz").await;
    assert!(!why.contains("vault"), "{why}");
    following.finish().await;

    let behind = served.control.now().plus(Duration::from_secs(3_600));
    served.control.clock().raise(behind);
    let (status, why) = served.health("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("clock is 3"), "{why}");
}

/// MO-2
#[tokio::test]
async fn given_metrics_then_they_tell_of_the_log_and_of_failed_sign_ins() {
    let served = Served::start(100).await;
    let body = r#"{"name":"nobody","password":"not a password","code":"000000"}"#;
    let answer = served
        .client()
        .post(served.url("/v1/sign-in"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let (status, metrics) = served.health("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        "sallyport_audit_entries 2",
        "sallyport_audit_lag_seconds",
        "sallyport_authentications_total{outcome=\"failed\",door=\"sign-in\"}",
        "sallyport_password_checks_total",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("nobody"), "no names");
}

/// OP-1: half a request keeps nobody busy for ever.
#[tokio::test]
async fn given_half_a_request_head_then_the_connection_ends() {
    let served = Served::start(100).await;
    let address = served.health.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
    ended.await.unwrap().ok();
}
