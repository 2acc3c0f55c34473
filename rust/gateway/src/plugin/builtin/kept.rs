//! What built-ins keep from one plan to the next.
//!
//! A reload makes all entries anew. What they have gathered (buckets, keys, connections) they share by its settings: whoever
//! asks for equal ones while somebody still holds them gets the very same. The plan before is held until the next one is
//! there, so what has not changed lives on, and what nobody needs any more ends by itself.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values by what they were made from.
pub(crate) struct Kept<K, V>(Mutex<Vec<(K, Weak<V>)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Kept<K, V> {
        Kept(Mutex::default())
    }
}

impl<K: PartialEq, V> Kept<K, V> {
    /// The value that was made from `key` and is still held, or else what `make` gives.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn get<E>(&self, key: K, make: impl FnOnce(&K) -> Result<Arc<V>, E>) -> Result<Arc<V>, E> {
        // A list that is left by a panic is still a list.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, value)| value.strong_count() > 0);
        let same = known.iter().find(|(its, _)| *its == key);
        if let Some(value) = same.and_then(|(_, value)| value.upgrade()) {
            return Ok(value);
        }
        let value = make(&key)?;
        known.push((key, Arc::downgrade(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_settings_share_a_value_for_as_long_as_somebody_holds_it() {
        let kept = Kept::default();
        let get = |key| kept.get(key, |key: &u32| Ok::<_, ()>(Arc::new(key.to_string()))).expect("made");
        let (first, same, other) = (get(1), get(1), get(2));
        assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&first, &other));
        drop((first, same));
        assert_eq!(kept.0.lock().expect("no panic").len(), 2);
        assert_eq!(*get(2), "2");
        assert_eq!(kept.0.lock().expect("no panic").len(), 1, "what nobody holds is forgotten");
        assert!(kept.get(3, |_| Err::<Arc<String>, _>("no")).is_err());
    }
}
