//! The tools. Each has arguments and a result, from which its schemas are made.

mod find;
mod forget;
mod recall;
mod stats;
mod store;

use std::any::Any;
use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::Call;
use crate::error::Error;

/// Result of a tool.
pub(crate) struct Output {
    structured: Value,
    /// Text for clients that do not show structured results; `None`: the structured result as JSON.
    text: Option<String>,
    /// Advice on the next call, for the same clients.
    note: Option<String>,
}

impl Output {
    fn new(result: &impl Serialize) -> Result<Self, Error> {
        let structured = serde_json::to_value(result).map_err(|error| Error::argument(error.to_string()))?;
        Ok(Self { structured, text: None, note: None })
    }

    fn with_text(self, text: String) -> Self {
        Self { text: Some(text), ..self }
    }

    fn with_note(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }

    pub(crate) fn into_result(self) -> CallToolResult {
        let mut result = CallToolResult::structured(self.structured);
        if let Some(text) = self.text {
            result.content = vec![ContentBlock::text(text)];
        }
        result.content.extend(self.note.map(ContentBlock::text));
        result
    }
}

/// Returns the descriptions of the tools. Only a server that reads files offers to store them.
pub(crate) fn list(reads_files: bool) -> Vec<Tool> {
    let read_only = || ToolAnnotations::new().read_only(true).open_world(false);
    let writes = || ToolAnnotations::new().read_only(false).open_world(false).idempotent(true);
    let mut store = tool::<store::Args, store::Stored>("store", store::ABOUT);
    if !reads_files && let Some(Value::Object(arguments)) = Arc::make_mut(&mut store.input_schema).get_mut("properties")
    {
        arguments.remove("path");
    }
    vec![
        store.with_annotations(writes().destructive(false)),
        tool::<recall::Args, recall::Recalled>("recall", recall::ABOUT).with_annotations(read_only()),
        tool::<find::Args, find::Found>("find", find::ABOUT).with_annotations(read_only()),
        tool::<forget::Args, forget::Forgotten>("forget", forget::ABOUT).with_annotations(writes().destructive(true)),
        tool::<stats::Args, stats::Stats>("stats", stats::ABOUT).with_annotations(read_only()),
    ]
}

/// Calls a tool; `None` if no tool has this name.
pub(crate) async fn call(name: &str, arguments: JsonObject, call: &Call<'_>) -> Option<Result<Output, Error>> {
    Some(match name {
        "store" => run(arguments, async |args| store::store(call, args).await).await,
        "recall" => run(arguments, async |args| recall::recall(call, args).await).await,
        "find" => run(arguments, async |args| find::find(call, args).await).await,
        "forget" => run(arguments, async |args| forget::forget(call, args).await).await,
        "stats" => run(arguments, async |args| stats::stats(call, args).await).await,
        _ => return None,
    })
}

/// Parses the arguments of a tool and runs it.
async fn run<A: DeserializeOwned>(
    arguments: JsonObject,
    tool: impl AsyncFnOnce(A) -> Result<Output, Error>,
) -> Result<Output, Error> {
    let arguments = serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        let (path, problem) = (error.path().to_string(), error.inner().to_string());
        match path.as_str() {
            "." => Error::argument(format!("the arguments cannot be used: {problem}")),
            _ => Error::argument(format!("argument `{path}`: {problem}")),
        }
    });
    tool(arguments?).await
}

fn tool<A: JsonSchema + Any, R: JsonSchema + Any>(name: &'static str, about: &'static str) -> Tool {
    let draft = SchemaSettings::draft2020_12;
    Tool::new(name, about, schema::<A>(draft())).with_raw_output_schema(schema::<R>(draft().for_serialize()))
}

/// Returns the schema of a type, without what a model does not need. Clients put it into the model's context.
fn schema<T: JsonSchema>(settings: SchemaSettings) -> Arc<JsonObject> {
    let schema =
        settings.with(|settings| settings.inline_subschemas = true).into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    simplify(&mut schema);
    let mut object = match schema {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    };
    for key in ["$schema", "title", "description"] {
        object.remove(key);
    }
    Arc::new(object)
}

/// Removes number formats and defaults, and turns `["string", "null"]` into `"string"`: an absent argument is left out.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(simplify),
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            for key in ["format", "default", "minimum", "maximum"] {
                if object.get(key).is_some_and(|value| !value.is_object()) {
                    object.remove(key);
                }
            }
            object.values_mut().for_each(simplify);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that the list of tools may take in a model's context.
    const LIST_BYTES_MAX: usize = 6000;

    #[test]
    fn the_list_of_tools_is_short_and_complete() {
        for reads_files in [false, true] {
            let tools = list(reads_files);
            let json = serde_json::to_string(&tools).unwrap();
            assert!(json.len() <= LIST_BYTES_MAX, "{} bytes: {json}", json.len());
            for tool in &tools {
                let (about, name) = (tool.description.as_deref().unwrap_or_default(), &tool.name);
                assert!(about.ends_with('.') && tool.annotations.is_some(), "{name}");
                for (schema, has_descriptions) in
                    [(&tool.input_schema, true), (tool.output_schema.as_ref().unwrap(), false)]
                {
                    assert_eq!(schema["type"], "object", "{name}");
                    for (property, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                        let is_complete =
                            value["type"].is_string() && (value["description"].is_string() || !has_descriptions);
                        assert!(is_complete, "{name}.{property}: {value}");
                    }
                }
            }
            assert_eq!(json.contains("\"path\""), reads_files);
        }
    }

    #[tokio::test]
    async fn wrong_arguments_are_named() {
        let parse = async |arguments: Value| {
            let Value::Object(arguments) = arguments else { panic!("no object") };
            let parsed = run(arguments, async |_: recall::Args| Output::new(&())).await;
            parsed.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(parse(serde_json::json!({ "handle": "ab12", "start": null })).await, "");
        for (wrong, expected) in [
            (serde_json::json!({}), "missing field `handle`"),
            (serde_json::json!({ "handle": 5 }), "argument `handle`: invalid type"),
            (serde_json::json!({ "handle": "ab12", "start": -1 }), "argument `start`: invalid value"),
            (serde_json::json!({ "handle": "ab12", "offset": 1 }), "unknown field `offset`, expected one of"),
        ] {
            let error = parse(wrong).await;
            assert!(error.contains(expected), "{error}");
        }
    }
}
