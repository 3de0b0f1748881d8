//! The document of a configuration.

use jiff::Timestamp;

use super::ids::{ConfigurationId, FileId, NodeId};
use super::lenient::document;
use super::person::Person;
use super::raw::RawJson;

document! {
    /// A configuration of a scene, as SmartShape stores it. Every field may be missing; fields whose
    /// form no sample shows are raw JSON.
    ///
    /// ```
    /// use smartshape_webhook::Configuration;
    ///
    /// let configuration: Configuration = serde_json::from_str(
    ///     r#"{"id": "5f5b", "explodedViewDistance": null, "lastActivationDate": "1970-01-01T00:00:00.000Z"}"#,
    /// )?;
    /// assert_eq!(configuration.id().unwrap(), "5f5b");
    /// assert_eq!(configuration.last_activation(), None, "never");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub struct Configuration(id: ConfigurationId) {
        /// The name.
        pub name: Option<String>,
        /// The file that it belongs to.
        pub file: Option<FileId>,
        /// Who made it.
        pub author: Option<Person>,
        /// When it was made.
        pub date: Option<Timestamp>,
        /// Who changed it last.
        pub last_modification_author: Option<Person>,
        /// When it was changed last; comes with the first change.
        pub last_modification_date: Option<Timestamp>,
        last_activation_date: Option<Timestamp>,
        /// Who has locked it.
        pub locked_by: Option<Person>,
        /// Whether it becomes active when the scene is opened.
        pub active_on_start: Option<bool>,
        /// The render mode, a name or an id.
        pub render_mode: Option<String>,
        /// Which axis points up, such as `Y+`.
        pub up_vector: Option<String>,

        /// Whether the camera is left alone.
        pub disable_camera: Option<bool>,
        /// The camera's position; empty when it is left alone.
        pub camera_position: Vec<RawJson>,
        /// The camera's type.
        pub camera_type: Option<RawJson>,
        /// The index of the camera's field of view.
        #[serde(rename = "cameraFoVIndex")]
        pub camera_fov_index: Option<RawJson>,
        /// Whether the camera's position is saved by itself.
        pub autosave_camera_position: Option<bool>,
        /// The near plane's distance.
        pub z_near: Option<f64>,

        /// Whether there is an environment.
        pub environment_enabled: Option<bool>,
        /// The environment's file.
        pub environment_file: Option<RawJson>,
        /// The environment's brightness.
        pub environment_brightness: Option<f64>,
        /// The environment's orientation.
        pub environment_orientation: Option<f64>,
        /// Whether the sky is shown.
        pub skybox_enabled: Option<bool>,
        /// Whether the environment lights the scene.
        pub ibl_enabled: Option<bool>,

        /// Whether layers are set.
        pub layers_enabled: Option<bool>,
        /// The layers that are on.
        pub enabled_layers: Vec<RawJson>,
        /// Whether behaviors are set.
        pub behaviors_enabled: Option<bool>,
        /// The behaviors that are on.
        pub enabled_behaviors: Vec<RawJson>,
        /// The effects that are on.
        pub enabled_effects: Vec<RawJson>,
        /// The parameters of transparency.
        pub transparency_effect_parameters: Option<RawJson>,
        /// Whether the view is exploded.
        pub exploded_view_enabled: Option<bool>,
        /// How far the view is exploded.
        pub exploded_view_distance: Option<f64>,
        /// Whether clipping planes are set.
        pub clipping_planes_enabled: Option<bool>,
        /// The clipping planes that are on.
        pub enabled_clipping_planes: Vec<RawJson>,
        /// Whether quotations are set.
        pub quotations_enabled: Option<bool>,
        /// The quotations that are on.
        pub enabled_quotations: Vec<RawJson>,
        /// Whether modifiers are set.
        pub modifiers_enabled: Option<bool>,
        /// The changes to single nodes.
        pub modifiers: Vec<Modifier>,

        /// Whether a scene tree is set.
        pub scene_enabled: Option<bool>,
        /// The scene tree, a number in the samples.
        pub scene_tree: Option<RawJson>,
        /// Whether the selection is kept.
        pub remember_selection: Option<bool>,
        /// The nodes selected.
        pub selected_nodes: Vec<RawJson>,

        /// Whether people work together in it.
        pub collaboration_enabled: Option<bool>,
        /// Whether they see each other.
        pub collaborative_avatars_enabled: Option<bool>,
        /// Whether they share the selection.
        pub collaborative_selection_enabled: Option<bool>,
        /// Who may read it; empty in every sample, so the form is not known.
        pub read_permissions: Vec<RawJson>,
        /// Who may change it; empty in every sample, so the form is not known.
        pub write_permissions: Vec<RawJson>,
    }
}

impl Configuration {
    /// When it was active last; `None` for never, which SmartShape writes as the start of 1970.
    #[must_use]
    pub fn last_activation(&self) -> Option<Timestamp> {
        self.last_activation_date.filter(|date| *date != Timestamp::UNIX_EPOCH)
    }
}

document! {
    /// What a configuration changes of one node.
    pub struct Modifier(id: str) {
        /// The node.
        pub node: Option<NodeId>,
        /// The kind of change.
        #[serde(rename = "type")]
        pub kind: Option<RawJson>,
        /// The change.
        pub details: Option<RawJson>,
    }
}
