//! Image records: which endpoint sees which image, under which references, and where its bytes are.
//!
//! Promises: a reference leads to one image an endpoint; recording takes it from the image that
//! held it. Does not: hold bytes, nor check that they are there: the node that loaded them said so.

use super::names::check_reference;
use super::{At, Fleet, hash};
use berth_model::change::{Answer, Change};
use berth_model::command::NewImage;
use berth_model::event::{Subject, What};
use berth_model::{EndpointId, Image, Rejection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Fleet {
    pub(super) fn record_image(&mut self, at: At, new: NewImage) -> Answer {
        let endpoint = at.endpoint;
        if endpoint != EndpointId::SYSTEM && !self.endpoints.contains_key(&endpoint) {
            return Err(Rejection::NoSuchEndpoint);
        }
        if !self.datastores.contains_key(&new.datastore) {
            return Err(Rejection::NoSuchDatastore(new.datastore));
        }
        for reference in &new.references {
            check_reference(reference)?;
        }
        let id = new.id;
        let before = self.images.get(&(id, endpoint)).cloned();
        let mut after = match &before {
            Some(before) => Image::clone(before),
            None => Image {
                id,
                references: BTreeSet::new(),
                config: new.config,
                document: new.document,
                size: new.size,
                datastores: BTreeSet::new(),
                meta: at.meta(endpoint, BTreeMap::new()),
            },
        };
        after.datastores.insert(new.datastore);
        after.references.extend(new.references.iter().cloned());
        let before_known = before.is_some();
        if before.is_some_and(|before| *before == after) {
            return Ok(Change::Nothing);
        }
        for reference in new.references {
            self.move_reference(at, reference, &after);
        }
        after.meta.modified = at.index;
        let what = if before_known { What::Changed } else { What::Created };
        self.put_image(after);
        self.tell(at, endpoint, Subject::Image(id), what);
        self.note_opportunity(at.index);
        Ok(Change::ImageRecorded { image: id })
    }

    fn move_reference(&mut self, at: At, reference: String, to: &Image) {
        let endpoint = to.meta.endpoint;
        let holder = self.names.references.insert((endpoint, reference.clone()), to.id);
        let Some(holder) = holder.filter(|holder| *holder != to.id) else { return };
        if let Some(image) = self.images.get(&(holder, endpoint)) {
            let mut image = Image::clone(image);
            image.references.remove(&reference);
            image.meta.modified = at.index;
            self.put_image(image);
            self.tell(at, endpoint, Subject::Image(holder), What::Changed);
        }
    }

    fn put_image(&mut self, image: Image) {
        self.hash.add(hash::image(&image));
        let key = (image.id, image.meta.endpoint);
        if let Some(before) = self.images.insert(key, Arc::new(image)) {
            self.hash.take(hash::image(&before));
        }
    }
}
