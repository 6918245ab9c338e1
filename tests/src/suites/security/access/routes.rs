//! Every method and route with every kind of wrong key. The lists come from the descriptor and the OpenAPI document, so
//! a new method cannot be forgotten.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, Bytes};
use c3_proto::pb;
use c3_server::access::Scope;
use futures::stream;
use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use serde_json::Value;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::harness::access::Access;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{Bearer, GatewayApi, id_of};
use crate::harness::quantity::{Quantity, median};
use crate::harness::raw_http1::{RawHttp1, Response};
use crate::suites::store::ops;

/// Calls of each kind whose times are compared.
const TIMED_CALLS: usize = 1000;
/// Maximum difference of the median times, as a fraction.
const TIME_DIFFERENCE_MAX: f64 = 0.05;
/// Name of the first tenant's document.
const NAME: &str = "secret";
/// Name that no tenant uses.
const UNKNOWN_NAME: &str = "absent";
/// Methods and routes that any valid key may call.
const ANY_SCOPE: [&str; 2] = ["c3.v1.Gateway/Nodes", "GET /v1/nodes"];
/// Routes that need no key.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/docs", "/openapi.json"];

/// Keys that must be refused everywhere.
struct Keys {
    invalid: Vec<(&'static str, Option<String>)>,
    /// For each scope, a key of the first tenant with all scopes but this one.
    lacking: Vec<(Scope, String)>,
    /// Key of the second tenant with all scopes.
    other: String,
}

impl Keys {
    fn create(access: &Access) -> Result<Self> {
        let valid = access.key("first", &Scope::ALL)?;
        let hour = Duration::from_secs(3600);
        let expired = access.key_with("first", &Scope::ALL, |key| key.expires = Some(SystemTime::now() - hour))?;
        let revoked = access.key_with("first", &Scope::ALL, |key| key.revoked = Some(SystemTime::now()))?;
        let last = if valid.ends_with('0') { '1' } else { '0' };
        let wrong = format!("{}{last}", &valid[..valid.len() - 1]);
        let unknown = format!("c3_{}_{}", "0".repeat(10), "0".repeat(64));
        let lacking = Scope::ALL.map(|lacked| {
            let others = Vec::from_iter(Scope::ALL.into_iter().filter(|scope| *scope != lacked));
            Ok((lacked, access.key("first", &others)?))
        });
        Ok(Self {
            invalid: vec![
                ("without", None),
                ("wrong", Some(wrong)),
                ("unknown", Some(unknown)),
                ("expired", Some(expired)),
                ("revoked", Some(revoked)),
                ("malformed", Some("c3_".to_owned())),
            ],
            lacking: lacking.into_iter().collect::<Result<_>>()?,
            other: access.key("second", &Scope::ALL)?,
        })
    }
}

/// Calls every method and route with every kind of key, and compares the answers about another tenant's document with
/// those about an unknown one.
pub(super) async fn routes() -> Result<Vec<Quantity>> {
    let access = Access::with_tenants(&["first", "second"])?;
    let keys = Keys::create(&access)?;
    let owner = access.key("first", &Scope::ALL)?;
    let path = access.path().display().to_string();
    let spec = ClusterSpec { api_key: Some(owner), ..ClusterSpec::with_gateway_args(&["--access", &path]) };
    let cluster = spec.start().await?;
    let options = pb::WriteOptions {
        name: Some(pb::PutName { name: NAME.to_owned(), ..Default::default() }),
        ..ops::default_options()
    };
    let stored = cluster.api()?.put(b"a text of the first tenant", options).await?;
    let id = id_of(&stored.document.context("no document")?);
    let mut quantities = methods(&cluster, &keys, &id).await?;
    quantities.extend(http_routes(&cluster, &keys, &id).await?);
    for path in OPEN {
        let status = RawHttp1::connect(cluster.gateway.address()).await?.get(path).await?.status;
        quantities.push(Quantity::equal(format!("routes-open{}", path.replace('/', "-")), status, 200));
    }
    quantities.push(timing(&cluster, &keys.other, &id).await?);
    ensure!(cluster.api()?.get(&id).await?.text == b"a text of the first tenant", "the document was changed");
    Ok(quantities)
}

/// A gRPC method with the fields of its request that name a document.
struct Method {
    name: String,
    id_field: Option<u8>,
    name_field: Option<u8>,
}

impl Method {
    /// Returns all methods of the gateway and of reflection.
    fn all() -> Result<Vec<Self>> {
        let files = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET)?;
        let messages = Vec::from_iter(files.file.iter().flat_map(|file| &file.message_type));
        let mut methods = Vec::new();
        for file in &files.file {
            for service in file.service.iter().filter(|service| service.name() == "Gateway") {
                for method in &service.method {
                    let input = method.input_type().rsplit('.').next().unwrap_or_default();
                    let message = messages.iter().find(|message| message.name() == input).context("no message")?;
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    let (id_field, name_field) = (field(message, "id"), field(message, "name"));
                    methods.push(Self { name, id_field, name_field });
                }
            }
        }
        Ok(methods)
    }

    /// Returns a request about a document.
    fn request(&self, id: &str, name: &str) -> Bytes {
        let mut message = Vec::new();
        for (field, value) in [(self.id_field, id), (self.name_field, name)] {
            if let Some(number) = field {
                message.extend([number << 3 | 2, value.len() as u8]);
                message.extend(value.as_bytes());
            }
        }
        message.into()
    }
}

/// Returns the number of a string field.
fn field(message: &DescriptorProto, name: &str) -> Option<u8> {
    let found = message.field.iter().find(|field| field.name() == name && field.r#type() == Type::String)?;
    u8::try_from(found.number()).ok()
}

async fn methods(cluster: &Cluster, keys: &Keys, id: &str) -> Result<Vec<Quantity>> {
    let methods = Method::all()?;
    let (mut invalid, mut scopes, mut reveals) = (Vec::new(), Vec::new(), Vec::new());
    let mut messages = BTreeSet::new();
    let reflection = ["v1", "v1alpha"].map(|version| Method {
        name: format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"),
        id_field: None,
        name_field: None,
    });
    for method in methods.iter().chain(&reflection) {
        for (kind, key) in &keys.invalid {
            let status = call(cluster, key.as_deref(), method, id, NAME).await?;
            messages.insert(status.message().to_owned());
            if status.code() != Code::Unauthenticated {
                invalid.push(format!("{} {kind}: {:?}", method.name, status.code()));
            }
        }
    }
    for method in &methods {
        let mut denied = Vec::new();
        for (lacked, key) in &keys.lacking {
            let status = call(cluster, Some(key), method, UNKNOWN_ID, UNKNOWN_NAME).await?;
            match status.code() {
                Code::PermissionDenied => denied.push(*lacked),
                Code::Unauthenticated => scopes.push(format!("{}: a valid key is refused", method.name)),
                _ => {}
            }
        }
        let expected = usize::from(!ANY_SCOPE.contains(&method.name.as_str()));
        if denied.len() != expected {
            scopes.push(format!("{} needs {denied:?}", method.name));
        }
        if method.id_field.is_some() || method.name_field.is_some() {
            let foreign = call(cluster, Some(&keys.other), method, id, NAME).await?;
            let unknown = call(cluster, Some(&keys.other), method, UNKNOWN_ID, UNKNOWN_NAME).await?;
            let shown = |status: &Status| (status.code(), neutral(status.message(), id));
            if foreign.code() == Code::Ok || shown(&foreign) != shown(&unknown) {
                reveals.push(format!("{}: {foreign} {unknown}", method.name));
            }
        }
    }
    Ok(vec![
        Quantity::at_least("routes-rpcs", methods.len() as f64, 20.0),
        Quantity::equal("routes-rpcs-open-to-invalid-keys", invalid, Vec::new()),
        Quantity::equal("routes-rpcs-refusals", messages.len(), 1),
        Quantity::equal("routes-rpcs-without-one-scope", scopes, Vec::new()),
        Quantity::equal("routes-rpcs-reveal-existence", reveals, Vec::new()),
    ])
}

/// Id that no document has.
const UNKNOWN_ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Replaces what the caller sent, so that only what the answer adds is compared.
fn neutral(message: &str, id: &str) -> String {
    let names = [(id, "ID"), (UNKNOWN_ID, "ID"), (NAME, "NAME"), (UNKNOWN_NAME, "NAME")];
    names.into_iter().fold(message.to_owned(), |message, (sent, shown)| message.replace(sent, shown))
}

/// Makes a call with one request message, and returns its status after the first response message.
async fn call(cluster: &Cluster, key: Option<&str>, method: &Method, id: &str, name: &str) -> Result<Status> {
    let mut client = tonic::client::Grpc::<Channel>::new(cluster.gateway.channel()?);
    client.ready().await?;
    let request = Bearer::new(key)?.call(Request::new(())).map_err(anyhow::Error::from)?;
    let message = method.request(id, name);
    let request = request.map(|()| stream::iter([message]));
    let path = format!("/{}", method.name).parse()?;
    let answer = async {
        let mut messages = client.streaming(request, path, Raw).await?.into_inner();
        messages.message().await
    };
    Ok(answer.await.err().unwrap_or_else(|| Status::new(Code::Ok, "")))
}

/// Codec of messages that are encoded already.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A route of the OpenAPI document.
struct Route {
    method: String,
    path: String,
}

impl Route {
    async fn send(&self, cluster: &Cluster, key: Option<&str>, id: &str, name: &str) -> Result<Response> {
        let path = self.path.replace("{ref}", id).replace("{namespace}", "default").replace("{name}", name);
        let authorization = key.map(|key| format!("Bearer {key}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let has_body = matches!(self.method.as_str(), "PUT" | "POST" | "PATCH");
        let body = if has_body { format!(r#"{{"id": "{id}"}}"#) } else { String::new() };
        RawHttp1::connect(cluster.gateway.address()).await?.send(&self.method, &path, &headers, body.as_bytes()).await
    }
}

async fn http_routes(cluster: &Cluster, keys: &Keys, id: &str) -> Result<Vec<Quantity>> {
    let api = RawHttp1::connect(cluster.gateway.address()).await?.get("/openapi.json").await?.json();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().context("no paths")? {
        for method in item.as_object().into_iter().flat_map(|item| item.keys()) {
            routes.push(Route { method: method.to_uppercase(), path: path.clone() });
        }
    }
    let described = routes.len();
    for path in ["/metrics", "/v1/unknown"] {
        routes.push(Route { method: "GET".to_owned(), path: path.to_owned() });
    }
    let (mut invalid, mut scopes, mut reveals) = (Vec::new(), Vec::new(), Vec::new());
    let mut bodies = BTreeSet::new();
    for route in &routes {
        let name = format!("{} {}", route.method, route.path);
        for (kind, key) in &keys.invalid {
            let response = route.send(cluster, key.as_deref(), id, NAME).await?;
            bodies.insert(String::from_utf8_lossy(&response.body).into_owned());
            if response.status != 401 || !response.headers.contains_key("www-authenticate") {
                invalid.push(format!("{name} {kind}: {}", response.status));
            }
        }
        let mut denied = Vec::new();
        for (lacked, key) in &keys.lacking {
            match route.send(cluster, Some(key), UNKNOWN_ID, UNKNOWN_NAME).await?.status {
                403 => denied.push(*lacked),
                401 => scopes.push(format!("{name}: a valid key is refused")),
                _ => {}
            }
        }
        let is_open = ANY_SCOPE.contains(&name.as_str()) || route.path == "/v1/unknown";
        if denied.len() != usize::from(!is_open) {
            scopes.push(format!("{name} needs {denied:?}"));
        }
        if route.path.contains("{ref}") || route.path.contains("{name}") {
            let foreign = route.send(cluster, Some(&keys.other), id, NAME).await?;
            let unknown = route.send(cluster, Some(&keys.other), UNKNOWN_ID, UNKNOWN_NAME).await?;
            let shown = |response: &Response| (response.status, neutral(&shown_body(response), id));
            if foreign.status < 400 || shown(&foreign) != shown(&unknown) {
                reveals.push(format!("{name}: {:?} {:?}", shown(&foreign), shown(&unknown)));
            }
        }
    }
    Ok(vec![
        Quantity::at_least("routes-http", described as f64, 23.0),
        Quantity::equal("routes-http-open-to-invalid-keys", invalid, Vec::new()),
        Quantity::equal("routes-http-refusals", bodies.len(), 1),
        Quantity::equal("routes-http-without-one-scope", scopes, Vec::new()),
        Quantity::equal("routes-http-reveal-existence", reveals, Vec::new()),
    ])
}

fn shown_body(response: &Response) -> String {
    match serde_json::from_slice::<Value>(&response.body) {
        Ok(json) => json.to_string(),
        Err(_) => String::from_utf8_lossy(&response.body).into_owned(),
    }
}

/// Compares the times of answers about another tenant's document with those about an unknown one.
async fn timing(cluster: &Cluster, other: &str, id: &str) -> Result<Quantity> {
    let api = GatewayApi::with_key(&cluster.gateway, Some(other))?;
    let mut times = [Vec::new(), Vec::new()];
    for call in 0..2 * TIMED_CALLS {
        let (kind, id) = if call % 2 == 0 { (0, id) } else { (1, UNKNOWN_ID) };
        let start = Instant::now();
        ensure!(api.stat(id).await.is_err_and(|status| status.code() == Code::NotFound), "{id} was found");
        times[kind].push(start.elapsed().as_secs_f64());
    }
    let [foreign, unknown] = times.map(median);
    let difference = (foreign / unknown - 1.0).abs();
    Ok(Quantity::at_most("routes-time-difference", difference, TIME_DIFFERENCE_MAX))
}
