//! Reads an account's settings against an engine's descriptor: an object of texts (or whole numbers),
//! nothing that the engine does not describe.

use std::collections::BTreeMap;

use sallyport_core::descriptor::Descriptor;
use serde_json::Value;

use super::EngineError;

/// Longest value of one setting.
const MAX_VALUE_BYTES: usize = 1_024;

/// Settings by name, as text.
#[derive(Debug)]
pub(super) struct Settings {
    engine: &'static str,
    values: BTreeMap<String, String>,
}

impl Settings {
    /// Reads `settings`; absent settings may be `null` or an empty object.
    ///
    /// # Errors
    /// [`EngineError::Settings`].
    pub(super) fn read(
        engine: &'static str,
        described: &Descriptor,
        settings: &Value,
    ) -> Result<Self, EngineError> {
        let refuse = |problem| EngineError::Settings { engine, problem };
        let mut values = BTreeMap::new();
        match settings {
            Value::Null => {}
            Value::Object(object) => {
                for (name, value) in object {
                    if described
                        .settings
                        .iter()
                        .all(|setting| &setting.name != name)
                    {
                        let name: String = name.chars().take(64).collect();
                        return Err(refuse(format!("there is no setting `{name}`")));
                    }
                    let text = match value {
                        Value::String(text) => text.clone(),
                        Value::Number(number) if number.is_u64() => number.to_string(),
                        _ => return Err(refuse(format!("`{name}` must be text or a number"))),
                    };
                    if text.len() > MAX_VALUE_BYTES {
                        return Err(refuse(format!(
                            "`{name}` is longer than {MAX_VALUE_BYTES} bytes"
                        )));
                    }
                    values.insert(name.clone(), text);
                }
            }
            _ => return Err(refuse("they must be an object".to_owned())),
        }
        if let Some(missing) = described
            .settings
            .iter()
            .find(|setting| setting.is_required && !values.contains_key(&setting.name))
        {
            return Err(refuse(format!("`{}` is missing", missing.name)));
        }
        Ok(Self { engine, values })
    }

    /// The text of a setting.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The error for a setting that does not read.
    pub(super) fn refuse(&self, name: &str, problem: &str) -> EngineError {
        EngineError::Settings {
            engine: self.engine,
            problem: format!("`{name}` {problem}"),
        }
    }
}
