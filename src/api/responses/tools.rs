//! `tools` and `tool_choice`: what a caller offers the model.

use std::collections::{HashMap, HashSet};

use crate::config::{Config, ToolTransport};
use crate::turn::{At, CallKind, Failure, Format, Tool, ToolChoice};

use crate::api::fields::Fields;
use crate::api::raw::{Items, Raw};

/// Tools that OpenAI's own servers run, by the beginning of their type: nobody here could.
const HOSTED: &[&str] = &[
    "apply_patch",
    "code_interpreter",
    "computer",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "shell",
    "tool_search",
    "web_search",
];

fn is_hosted(kind: &str) -> bool {
    HOSTED
        .iter()
        .any(|hosted| kind.strip_prefix(hosted).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
}

/// What the request says about tools, read list by list.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// Whether functions that are strict stay so.
    strict: bool,
    tools: Vec<Tool>,
    /// The field of each.
    places: Vec<String>,
    by_name: HashMap<String, usize>,
    /// Place and type of each that is not offered.
    hosted: Vec<(String, String)>,
    /// Wishes that are not heard.
    ignored: Vec<String>,
}

/// What the model is offered.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) tools: Vec<Tool>,
    /// The field of each.
    pub(super) places: Vec<String>,
    pub(super) choice: ToolChoice,
    /// Wishes that are not heard, and tools that are not offered.
    pub(super) ignored: Vec<String>,
}

impl Offered {
    /// Nothing yet, under these settings.
    pub(super) fn new(config: &Config) -> Offered {
        Offered { strict: config.tool_transport == ToolTransport::Items, ..Offered::default() }
    }

    /// Adds the tools of a list, if there is one.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] naming the field.
    pub(super) fn add(&mut self, fields: &Fields) -> Result<(), Failure> {
        for (index, value) in tools(fields)?.into_iter().flatten().enumerate() {
            self.add_one(value, &fields.path(&format!("tools[{index}]")))?;
        }
        Ok(())
    }

    fn add_one(&mut self, value: Raw, place: &str) -> Result<(), Failure> {
        let fields = Fields::of(value, format!("{place}."))?;
        match &*fields.string("type")?.ok_or_else(|| fields.missing("type"))? {
            "function" | "custom" => self.push(&fields, place, None),
            "namespace" => {
                let namespace = fields.tool_name("name")?;
                fields.string("description")?;
                let list = tools(&fields)?.ok_or_else(|| fields.missing("tools"))?;
                for (index, value) in list.enumerate() {
                    let place = format!("{place}.tools[{index}]");
                    self.push(&Fields::of(value, format!("{place}."))?, &place, Some(&namespace))?;
                }
                Ok(())
            }
            kind if is_hosted(kind) => {
                self.hosted.push((place.to_owned(), kind.to_owned()));
                Ok(())
            }
            _ => Err(fields.invalid("type", "must be function, custom or namespace")),
        }
    }

    fn push(&mut self, fields: &Fields, place: &str, namespace: Option<&str>) -> Result<(), Failure> {
        let tool = match &*fields.string("type")?.ok_or_else(|| fields.missing("type"))? {
            "function" => {
                let strict = fields.boolean("strict")?.unwrap_or(false);
                if strict && !self.strict {
                    // Codex's own functions are never strict.
                    self.ignored.push(fields.path("strict"));
                }
                let name = fields.tool_name("name")?;
                let description = fields.string("description")?.unwrap_or_default();
                Tool::function(name, description, fields.parameters("parameters")?).strictly(strict)
            }
            "custom" => Tool::custom(
                fields.tool_name("name")?,
                fields.string("description")?.unwrap_or_default(),
                format(fields)?,
            ),
            _ => return Err(fields.invalid("type", "must be function or custom")),
        };
        let tool = match namespace {
            Some(namespace) => tool.within(namespace),
            None => tool,
        };
        let name = tool.full_name().into_owned();
        if self.by_name.insert(name, self.tools.len()).is_some() {
            return Err(fields.invalid("name", "is used by two tools"));
        }
        self.tools.push(tool);
        self.places.push(place.to_owned());
        Ok(())
    }

    /// Which of the tools that is.
    fn find(&self, fields: &Fields) -> Result<usize, Failure> {
        let name = fields.string("name")?.ok_or_else(|| fields.missing("name"))?;
        let name = match fields.string("namespace")? {
            Some(namespace) => format!("{namespace}__{name}"),
            None => name.into_owned(),
        };
        let index = self.by_name.get(&name).copied();
        index.ok_or_else(|| fields.invalid("name", "must be the name of one of the tools"))
    }

    /// What `tool_choice` makes of them.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] or [`Failure::Unsupported`] naming the field.
    pub(super) fn chosen(mut self, fields: &Fields) -> Result<Offer, Failure> {
        let (choice, allowed) = match self.choice(fields)? {
            Choice::None => (ToolChoice::Auto, Some(HashSet::new())),
            Choice::All(choice) => {
                if let (true, Some((place, kind))) = (self.tools.is_empty(), self.hosted.first()) {
                    return Err(hosted(place, kind));
                }
                (choice, None)
            }
            Choice::Allowed(choice, allowed) => (choice, Some(allowed)),
        };
        let offered = |index: &usize| allowed.as_ref().is_none_or(|allowed| allowed.contains(index));
        let mut offer = Offer { choice, ignored: self.ignored, ..Offer::default() };
        offer.ignored.extend(self.hosted.drain(..).map(|(place, kind)| format!("{place}.{kind}")));
        for (index, (tool, place)) in self.tools.into_iter().zip(self.places).enumerate() {
            if offered(&index) {
                offer.tools.push(tool);
                offer.places.push(place);
            }
        }
        Ok(offer)
    }

    fn choice(&self, fields: &Fields) -> Result<Choice, Failure> {
        let needs_tools = |choice| match self.tools.is_empty() && self.hosted.is_empty() {
            true => Err(fields.invalid("tool_choice", "needs tools")),
            false => Ok(Choice::All(choice)),
        };
        let Some(value) = fields.get("tool_choice") else { return Ok(Choice::All(ToolChoice::Auto)) };
        let why = "must be none, auto, required, a tool of tools or allowed_tools";
        if let Some(word) = value.string() {
            return match &*word {
                "none" => Ok(Choice::None),
                "auto" => Ok(Choice::All(ToolChoice::Auto)),
                "required" => needs_tools(ToolChoice::Required),
                _ => Err(fields.invalid("tool_choice", why)),
            };
        }
        let choice = Fields::of(value, "tool_choice.").map_err(|_| fields.invalid("tool_choice", why))?;
        match &*choice.string("type")?.ok_or_else(|| choice.missing("type"))? {
            kind @ ("function" | "custom") => {
                let tool = &self.tools[self.of_kind(&choice, kind)?];
                Ok(Choice::All(ToolChoice::Named(tool.full_name().into_owned())))
            }
            "allowed_tools" => self.allowed(&choice),
            kind if is_hosted(kind) => Err(hosted("tool_choice", kind)),
            _ => Err(choice.invalid("type", "must be function, custom or allowed_tools")),
        }
    }

    fn of_kind(&self, fields: &Fields, kind: &str) -> Result<usize, Failure> {
        let index = self.find(fields)?;
        let same = match self.tools[index].call_kind() {
            CallKind::Function => kind == "function",
            CallKind::Custom => kind == "custom",
        };
        if same { Ok(index) } else { Err(fields.invalid("type", "must be that of the tool")) }
    }

    fn allowed(&self, choice: &Fields) -> Result<Choice, Failure> {
        let list = choice.array("tools")?.ok_or_else(|| choice.missing("tools"))?;
        let mode = match choice.string("mode")?.as_deref() {
            Some("auto") => ToolChoice::Auto,
            Some("required") => ToolChoice::Required,
            None => return Err(choice.missing("mode")),
            Some(_) => return Err(choice.invalid("mode", "must be auto or required")),
        };
        if list.is_empty() {
            return Err(choice.invalid("tools", "must not be empty"));
        }
        let mut indexes = HashSet::new();
        let mut nobodys = None;
        for (number, tool) in list.enumerate() {
            let place = format!("tool_choice.tools[{number}]");
            let tool = Fields::of(tool, format!("{place}."))?;
            match &*tool.string("type")?.ok_or_else(|| tool.missing("type"))? {
                kind @ ("function" | "custom") => {
                    indexes.insert(self.of_kind(&tool, kind)?);
                }
                kind if is_hosted(kind) => nobodys = Some(hosted(&place, kind)),
                _ => return Err(tool.invalid("type", "must be function or custom")),
            }
        }
        match nobodys {
            Some(failure) if indexes.is_empty() => Err(failure),
            _ => Ok(Choice::Allowed(mode, indexes)),
        }
    }
}

/// What `tool_choice` says.
enum Choice {
    None,
    /// Of all tools.
    All(ToolChoice),
    /// Of those with these numbers alone.
    Allowed(ToolChoice, HashSet<usize>),
}

fn hosted(place: &str, kind: &str) -> Failure {
    let message =
        format!("{place}: hosted tools (`{kind}`) are not available here; offer a function instead.");
    Failure::Unsupported { at: At::Field(place.to_owned()), message }
}

/// The most tools of one list: the upstream takes no more.
const MOST: usize = 128;

/// The field `tools`.
fn tools<'a>(fields: &Fields<'a>) -> Result<Option<Items<'a>>, Failure> {
    let list = fields.array("tools")?;
    match list.clone().map_or(0, Iterator::count) {
        0..=MOST => Ok(list),
        _ => Err(fields.invalid("tools", &format!("must not have more than {MOST} entries"))),
    }
}

/// The form of a custom tool's input.
fn format(fields: &Fields) -> Result<Format, Failure> {
    let Some(format) = fields.object("format")? else { return Ok(Format::Text) };
    let format = Fields::of(format, fields.path("format."))?;
    match &*format.string("type")?.ok_or_else(|| format.missing("type"))? {
        "text" => Ok(Format::Text),
        "grammar" => {
            let syntax = format.string("syntax")?.ok_or_else(|| format.missing("syntax"))?;
            if !matches!(&*syntax, "lark" | "regex") {
                return Err(format.invalid("syntax", "must be lark or regex"));
            }
            let definition = format.string("definition")?.ok_or_else(|| format.missing("definition"))?;
            Ok(Format::Grammar { syntax: syntax.into_owned(), definition: definition.into_owned() })
        }
        _ => Err(format.invalid("type", "must be text or grammar")),
    }
}
