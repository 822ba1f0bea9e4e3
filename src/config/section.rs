//! A table of the file, laid over the same table of `[defaults]`: each key is looked up, and what
//! nobody looked up is unknown.

use std::cell::RefCell;

use toml::de::{DeTable, DeValue};

use super::value::{At, Value};
use super::wrong::{Wrong, did_you_mean};

/// A table as it was written once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'t> {
    /// Where its header stands, or the table itself.
    pub(super) at: At<'t>,
    pub(super) table: &'t DeTable<'t>,
}

/// A table, with all its layers; there is none if the table is not written anywhere.
#[derive(Debug)]
pub(super) struct Section<'t> {
    /// Where it stands, or the table that it would stand in.
    pub(super) at: At<'t>,
    /// The nearest first.
    layers: Vec<Layer<'t>>,
    /// The keys that were looked up: those that exist.
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Section<'t> {
    pub(super) fn new(at: At<'t>, layers: Vec<Layer<'t>>) -> Section<'t> {
        Section { at, layers, asked: RefCell::default() }
    }

    /// A table without any below it.
    pub(super) fn of(layer: Layer<'t>) -> Section<'t> {
        Section::new(layer.at, vec![layer])
    }

    pub(super) fn is_written(&self) -> bool {
        !self.layers.is_empty()
    }

    /// The nearest value of this key.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'t>> {
        self.get_with_depth(key).map(|it| it.1)
    }

    /// The nearest value of this key, and how many layers are nearer than its own.
    pub(super) fn get_with_depth(&self, key: &'static str) -> Option<(usize, Value<'t>)> {
        self.asked.borrow_mut().push(key);
        let mut layers = self.layers.iter().enumerate();
        layers.find_map(|(depth, layer)| Some((depth, layer.get(key)?)))
    }

    /// All values of this key, the nearest first.
    pub(super) fn all(&self, key: &'static str) -> Vec<Value<'t>> {
        self.asked.borrow_mut().push(key);
        self.layers.iter().filter_map(|layer| layer.get(key)).collect()
    }

    /// What `read` makes of this key, or the default where the key is absent; nothing if it is
    /// wrong, and reported.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Value<'t>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).map_or(Some(default), read)
    }

    /// The same for a key without a default.
    #[expect(clippy::option_option, reason = "outside: nothing, because it is wrong")]
    pub(super) fn maybe<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(Value<'t>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.or(key, None, |value| read(value).map(Some))
    }

    /// The table under this key, laid over those of the layers below.
    pub(super) fn section(&self, key: &'static str) -> Section<'t> {
        self.asked.borrow_mut().push(key);
        let layers = self.layers.iter().filter_map(|layer| layer.get(key)?.table());
        let layers: Vec<Layer<'t>> = layers.collect();
        Section::new(layers.first().map_or(self.at, |layer| layer.at), layers)
    }

    /// Whether the nearest layer has this key itself.
    pub(super) fn is_own(&self, key: &str) -> bool {
        self.layers.first().is_some_and(|layer| layer.table.contains_key(key))
    }

    /// Where this key has its value, or the table that it would stand in.
    pub(super) fn at(&self, key: &'static str) -> At<'t> {
        self.get(key).map_or(self.at, |value| value.at)
    }

    /// Where this key itself stands.
    pub(super) fn key_at(&self, key: &str) -> At<'t> {
        let at = |layer: &Layer<'t>| {
            let (key, _) = layer.table.get_key_value(key)?;
            Some(layer.at.spanning(key.span()))
        };
        self.layers.iter().find_map(at).unwrap_or(self.at)
    }

    /// All keys and their nearest values, where the keys are free to choose.
    pub(super) fn entries(&self) -> Vec<Value<'t>> {
        let mut entries: Vec<Value<'t>> = Vec::new();
        for layer in &self.layers {
            for entry in layer.entries() {
                if !entries.iter().any(|it| it.key == entry.key) {
                    entries.push(entry);
                }
            }
        }
        entries
    }

    /// Reports every key that was not looked up.
    pub(super) fn refuse_unknown(&self) {
        let asked = self.asked.borrow();
        for layer in &self.layers {
            for (key, _) in layer.table {
                let written = key.get_ref().as_ref();
                if !asked.contains(&written) {
                    let text = format!("unknown key `{written}`");
                    let hint = did_you_mean(written, asked.iter().copied());
                    layer.at.spanning(key.span()).refuse(Wrong { text, hint });
                }
            }
        }
    }
}

impl<'t> Layer<'t> {
    fn get(&self, key: &str) -> Option<Value<'t>> {
        let (key, item) = self.table.get_key_value(key)?;
        let at = self.at.spanning(item.span());
        Some(Value { key: key.get_ref(), at, item: item.get_ref() })
    }

    /// All keys and values, in the order of the file.
    pub(super) fn entries(&self) -> Vec<Value<'t>> {
        self.keyed_entries().into_iter().map(|it| it.1).collect()
    }

    /// The same, with the place of each key.
    pub(super) fn keyed_entries(&self) -> Vec<(At<'t>, Value<'t>)> {
        let mut entries: Vec<(At<'t>, Value<'t>)> = Vec::new();
        for (key, item) in self.table {
            let at = self.at.spanning(item.span());
            let value = Value { key: key.get_ref(), at, item: item.get_ref() };
            entries.push((self.at.spanning(key.span()), value));
        }
        entries.sort_by_key(|it| it.0.span);
        entries
    }
}

impl<'t> Value<'t> {
    /// The table that it is.
    pub(super) fn table(self) -> Option<Layer<'t>> {
        if let DeValue::Table(table) = self.item {
            return Some(Layer { at: self.at, table });
        }
        self.must_be("a table", None);
        None
    }
}
