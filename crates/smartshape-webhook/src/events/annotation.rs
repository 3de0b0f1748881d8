//! The document of an annotation.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::attributes::Attributes;
use super::ids::{AnnotationId, FileId, NodeId};
use super::lenient::{self, LenientValue, document};
use super::person::Person;
use super::raw::RawJson;

document! {
    /// An annotation, as SmartShape stores it. Every field may be missing: `content`, for instance, is
    /// absent in some updates.
    ///
    /// ```
    /// use smartshape_webhook::{Annotation, Color};
    ///
    /// let annotation: Annotation = serde_json::from_str(
    ///     r##"{"_id": "5c6f", "name": "crack", "color": "#fff", "cameraX": 3, "cameraY": 1.5, "cameraZ": 3}"##,
    /// )?;
    /// assert_eq!(annotation.id().unwrap(), "5c6f");
    /// assert_eq!(annotation.color, Some(Color::Text("#fff".to_owned())));
    /// assert_eq!(annotation.camera().unwrap().y, 1.5);
    /// assert_eq!(annotation.content, None);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub struct Annotation(id: AnnotationId) {
        /// The annotation's own uuid, in newer documents.
        pub uuid: Option<String>,
        /// The title.
        pub name: Option<String>,
        /// The description.
        pub content: Option<String>,
        /// Who wrote it.
        pub author: Option<Person>,
        /// The file that it belongs to.
        pub file: Option<FileId>,
        /// When it was created.
        pub date: Option<Timestamp>,
        /// When it was changed last.
        pub last_update: Option<Timestamp>,
        /// The type, a number in the samples; the numbers are not documented.
        #[serde(rename = "type")]
        pub kind: Option<RawJson>,
        /// The color.
        pub color: Option<Color>,
        camera_x: Option<f64>,
        camera_y: Option<f64>,
        camera_z: Option<f64>,
        camera_target_x: Option<f64>,
        camera_target_y: Option<f64>,
        camera_target_z: Option<f64>,
        /// The places in the scene that it points at.
        pub targets: Vec<AnnotationTarget>,
        /// Objects that it points at, in newer documents; their form is not documented.
        pub target_objects: Vec<RawJson>,
        /// Tags; empty in every sample, so their form is not known.
        pub tags: Vec<RawJson>,
        /// Folders, in newer documents.
        pub folders: Vec<RawJson>,
        /// The annotation's attributes, in newer documents.
        pub attributes: Attributes,
        /// A label, in newer documents.
        pub label: Option<RawJson>,
        /// An object in some events and an empty array in others.
        pub permissions: Option<RawJson>,
        /// Who may read it; empty in every sample, so the form is not known.
        pub read_permissions: Vec<RawJson>,
        /// Who may change it; empty in every sample, so the form is not known.
        pub write_permissions: Vec<RawJson>,
    }
}

impl Annotation {
    /// Where the camera stands.
    #[must_use]
    pub fn camera(&self) -> Option<Point> {
        Point::from_parts(self.camera_x, self.camera_y, self.camera_z)
    }

    /// What the camera looks at, in newer documents.
    #[must_use]
    pub fn camera_target(&self) -> Option<Point> {
        Point::from_parts(self.camera_target_x, self.camera_target_y, self.camera_target_z)
    }
}

document! {
    /// A place in the scene that an annotation points at.
    pub struct AnnotationTarget(id: str) {
        /// The node.
        pub node: Option<NodeId>,
        /// The point on it.
        pub position: Option<Point>,
        /// The direction that its surface faces there.
        pub surface_normal: Option<Point>,
    }
}

/// A point or a direction in the scene.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Point {
    /// Along the x axis.
    pub x: f64,
    /// Along the y axis.
    pub y: f64,
    /// Along the z axis.
    pub z: f64,
}

impl Point {
    fn from_parts(x: Option<f64>, y: Option<f64>, z: Option<f64>) -> Option<Self> {
        Some(Self { x: x?, y: y?, z: z? })
    }
}

impl LenientValue for Point {
    fn read(json: &str) -> Option<Self> {
        lenient::object(json).ok()
    }
}

/// A color, in the two forms that occur.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Color {
    /// A color in the form of CSS, such as `#fff`.
    Text(String),
    /// Numbers, two in the documents seen; their meaning is not documented.
    Numbers(Vec<f64>),
}

impl LenientValue for Color {
    fn read(json: &str) -> Option<Self> {
        lenient::decode_string(json)
            .map(Self::Text)
            .or_else(|| serde_json::from_str(json).ok().map(Self::Numbers))
    }
}

impl<'de> Deserialize<'de> for Color {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        LenientValue::read(raw.as_str())
            .ok_or_else(|| D::Error::custom("a color is a text or a list of numbers"))
    }
}
