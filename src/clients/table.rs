//! The table of known clients: from it come their text, what `connect` starts, and the README's table.

/// The API format that a client speaks.
#[derive(Clone, Copy, Debug)]
pub enum Dialect {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Messages,
}

/// What has to be in force here for a client to work as it was meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Any engine and profile will do.
    Nothing,
    /// A plain chat model: `profile = "model"`.
    Model,
    /// And function tools: `engine = "app-server"` too.
    Tools,
}

/// What `--` starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// This program, with these arguments (templates) before the given ones.
    Program(&'static str, &'static [&'static str]),
    /// A library: the given words are a program that uses it, and its arguments.
    Given,
    /// Nothing, for this reason.
    Never(&'static str),
}

/// One client. Templates may hold `@v1@` (the URL that ends in `/v1`), `@base@` (without it), `@model@`
/// and `@window@`; a variable's value may be `@key@`, which is never a part of anything else.
#[derive(Debug)]
pub struct Client {
    /// As it is typed.
    pub name: &'static str,
    /// As its makers call it.
    pub title: &'static str,
    /// What it speaks here, first what the settings below choose.
    pub dialects: &'static [Dialect],
    /// How it takes URL, key and model, in a few words.
    pub takes: &'static str,
    /// What must be in force.
    pub needs: Needs,
    /// How long it takes a conversation to be allowed to grow; empty where it does not count.
    pub window: &'static str,
    /// The variables it reads: names and templates.
    pub env: &'static [(&'static str, &'static str)],
    /// Variables that would win over those.
    pub unset: &'static [&'static str],
    /// How it is started.
    pub start: Start,
    /// What else there is to do or to know, a template; a line that is no code begins with `#`.
    pub(super) text: &'static str,
}

/// Tokens of a conversation with the models of the Codex CLI's own list, the least of them: what a client
/// is told that has to be told (`codex debug models`, 0.169.0).
pub const WINDOW: u32 = 272_000;

use Dialect::{Chat, Messages, Responses};

const OPENAI: &[(&str, &str)] = &[("OPENAI_BASE_URL", "@v1@"), ("OPENAI_API_KEY", "@key@")];
const ANTHROPIC: &[(&str, &str)] = &[("ANTHROPIC_BASE_URL", "@base@"), ("ANTHROPIC_API_KEY", "@key@")];
/// Variables of OpenAI's and Anthropic's libraries that send a request elsewhere, or as somebody else.
const OPENAI_ELSE: &[&str] = &["OPENAI_API_BASE", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"];
const ANTHROPIC_ELSE: &[&str] = &["ANTHROPIC_AUTH_TOKEN"];
const TOLD: &str = "is told 272,000";
const VARIABLES: &str = "variables; the model in the code";

/// All of them, in the order of the documentation.
pub static CLIENTS: &[Client] = &[
    Client {
        name: "curl",
        title: "curl",
        dialects: &[Chat, Responses, Messages],
        takes: "URL and key in the command, the key by a pipe",
        needs: Needs::Nothing,
        window: "",
        env: &[],
        unset: &[],
        start: Start::Never("curl has no base URL to be set: run the command that `connect curl` prints"),
        text: "@curl@ -sS @v1@/chat/completions -H 'Content-Type: application/json' \\\n  \
               -d '{\"model\":\"@model@\",\"messages\":[{\"role\":\"user\",\"content\":\"Reply with exactly: pong\"}]}'\n",
    },
    Client {
        name: "openai-python",
        title: "openai for Python",
        dialects: &[Chat, Responses],
        takes: VARIABLES,
        needs: Needs::Nothing,
        window: "",
        env: OPENAI,
        unset: OPENAI_ELSE,
        start: Start::Given,
        text: "# from openai import OpenAI\n\
               # OpenAI().chat.completions.create(model=\"@model@\", messages=[…])\n",
    },
    Client {
        name: "openai-node",
        title: "openai for Node",
        dialects: &[Chat, Responses],
        takes: VARIABLES,
        needs: Needs::Nothing,
        window: "",
        env: OPENAI,
        unset: OPENAI_ELSE,
        start: Start::Given,
        text: "# import OpenAI from 'openai'\n\
               # await new OpenAI().chat.completions.create({ model: '@model@', messages: […] })\n",
    },
    Client {
        name: "anthropic-python",
        title: "anthropic for Python",
        dialects: &[Messages],
        takes: VARIABLES,
        needs: Needs::Nothing,
        window: "",
        env: ANTHROPIC,
        unset: ANTHROPIC_ELSE,
        start: Start::Given,
        text: "# from anthropic import Anthropic\n\
               # Anthropic().messages.create(model=\"@model@\", max_tokens=1024, messages=[…])\n",
    },
    Client {
        name: "anthropic-node",
        title: "@anthropic-ai/sdk for Node",
        dialects: &[Messages],
        takes: VARIABLES,
        needs: Needs::Nothing,
        window: "",
        env: ANTHROPIC,
        unset: ANTHROPIC_ELSE,
        start: Start::Given,
        text: "# import Anthropic from '@anthropic-ai/sdk'\n\
               # await new Anthropic().messages.create({ model: '@model@', max_tokens: 1024, messages: […] })\n",
    },
    Client {
        name: "langchain",
        title: "LangChain",
        dialects: &[Responses, Chat],
        takes: VARIABLES,
        needs: Needs::Tools,
        window: "",
        env: OPENAI,
        unset: OPENAI_ELSE,
        start: Start::Given,
        text: "# from langchain_openai import ChatOpenAI\n# ChatOpenAI(model=\"@model@\").invoke(\"…\")\n",
    },
    Client {
        name: "openai-agents",
        title: "OpenAI Agents SDK",
        dialects: &[Responses],
        takes: "variables",
        needs: Needs::Tools,
        window: "",
        // Its traces, prompts in them, would go to OpenAI with the key.
        env: &[
            ("OPENAI_BASE_URL", "@v1@"),
            ("OPENAI_API_KEY", "@key@"),
            ("OPENAI_DEFAULT_MODEL", "@model@"),
            ("OPENAI_AGENTS_DISABLE_TRACING", "1"),
        ],
        unset: OPENAI_ELSE,
        start: Start::Given,
        text: "# from agents import Agent\n# Agent(name=\"…\", model=\"@model@\")\n",
    },
    Client {
        name: "ai-sdk",
        title: "Vercel AI SDK",
        dialects: &[Responses],
        takes: VARIABLES,
        needs: Needs::Tools,
        window: "",
        env: OPENAI,
        unset: &[],
        start: Start::Given,
        text: "# import { openai } from '@ai-sdk/openai'\n# await generateText({ model: openai('@model@'), prompt: '…' })\n",
    },
    Client {
        name: "litellm",
        title: "LiteLLM",
        dialects: &[Chat],
        takes: VARIABLES,
        needs: Needs::Model,
        window: "",
        env: &[("OPENAI_BASE_URL", "@v1@"), ("OPENAI_API_BASE", "@v1@"), ("OPENAI_API_KEY", "@key@")],
        unset: &[],
        start: Start::Given,
        text: "# import litellm\n# litellm.completion(model=\"openai/@model@\", messages=[…])\n",
    },
    Client {
        name: "llm",
        title: "llm",
        dialects: &[Chat],
        takes: "a file; the key by `llm keys set`",
        needs: Needs::Model,
        window: "",
        env: &[],
        unset: &[],
        start: Start::Never("llm takes models with a URL of their own from a file only"),
        text: "# Run `llm keys set codex-local` and paste the key, then add to extra-openai-models.yaml in the\n\
               # folder of `llm logs path`, and use it with `llm -m @model@ '…'`:\n\
               - model_id: @model@\n  model_name: @model@\n  api_base: @v1@\n  api_key_name: codex-local\n  \
               supports_schema: true\n  supports_tools: true\n  vision: true\n",
    },
    Client {
        name: "aider",
        title: "aider",
        dialects: &[Chat],
        takes: "flags; the key as a variable",
        needs: Needs::Model,
        window: "",
        env: &[("OPENAI_API_KEY", "@key@")],
        unset: &[],
        start: Start::Program(
            "aider",
            &["--model", "openai/@model@", "--openai-api-base", "@v1@", "--no-show-model-warnings"],
        ),
        text: "",
    },
    Client {
        name: "claude-code",
        title: "Claude Code",
        dialects: &[Messages],
        takes: "variables",
        needs: Needs::Tools,
        window: TOLD,
        // By a name of its own it would take the window of that model, a million tokens, and say in
        // commits that this model wrote them. The last is for such names of a subagent's file.
        env: &[
            ("ANTHROPIC_BASE_URL", "@base@"),
            ("ANTHROPIC_API_KEY", "@key@"),
            ("ANTHROPIC_MODEL", "@model@"),
            ("ANTHROPIC_DEFAULT_OPUS_MODEL", "@model@"),
            ("ANTHROPIC_DEFAULT_SONNET_MODEL", "@model@"),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "@model@"),
            ("CLAUDE_CODE_MAX_CONTEXT_TOKENS", "@window@"),
            ("CLAUDE_CODE_DISABLE_1M_CONTEXT", "1"),
        ],
        unset: &["ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"],
        start: Start::Program("claude", &[]),
        text: "",
    },
    Client {
        name: "codex",
        title: "Codex CLI",
        dialects: &[Responses],
        takes: "flags; the key as a variable",
        needs: Needs::Tools,
        window: TOLD,
        env: &[("CODEX_LOCAL_API_KEY", "@key@")],
        unset: &[],
        start: Start::Program(
            "codex",
            &[
                "-c",
                "model_provider=\"codex_local\"",
                "-c",
                "model_providers.codex_local={name=\"codex-api-proxy\",base_url=\"@v1@\",wire_api=\"responses\",env_key=\"CODEX_LOCAL_API_KEY\"}",
                "-c",
                "model=\"@model@\"",
                "-c",
                "model_context_window=@window@",
            ],
        ),
        text: "",
    },
    Client {
        name: "opencode",
        title: "opencode",
        dialects: &[Responses, Chat, Messages],
        takes: "variables",
        needs: Needs::Tools,
        window: TOLD,
        env: &[
            ("CODEX_LOCAL_API_KEY", "@key@"),
            (
                "OPENCODE_CONFIG_CONTENT",
                "{\"model\":\"codex-local/@model@\",\"small_model\":\"codex-local/@model@\",\
                 \"provider\":{\"codex-local\":{\"name\":\"codex-api-proxy\",\"npm\":\"@ai-sdk/openai\",\
                 \"options\":{\"baseURL\":\"@v1@\",\"apiKey\":\"{env:CODEX_LOCAL_API_KEY}\"},\
                 \"models\":{\"@model@\":{\"name\":\"Codex\",\"tool_call\":true,\"attachment\":true,\
                 \"limit\":{\"context\":@window@,\"output\":32000}}}}}}",
            ),
        ],
        unset: &[],
        start: Start::Program("opencode", &[]),
        text: "",
    },
    Client {
        name: "qwen-code",
        title: "Qwen Code",
        dialects: &[Messages],
        takes: "variables and flags",
        needs: Needs::Tools,
        window: "takes 131,072; by a file 272,000",
        env: ANTHROPIC,
        unset: ANTHROPIC_ELSE,
        start: Start::Program("qwen", &["--auth-type", "anthropic", "--model", "@model@"]),
        text: "# It takes a context window of 131,072 tokens for a name it does not know; the whole of it by\n\
               # ~/.qwen/settings.json (what is there already stays):\n\
               # {\"model\":{\"generationConfig\":{\"contextWindowSize\":@window@}}}\n",
    },
    Client {
        name: "continue",
        title: "Continue",
        dialects: &[Chat],
        takes: "a file",
        needs: Needs::Tools,
        window: TOLD,
        env: &[],
        unset: &[],
        start: Start::Never("Continue takes models from a file only"),
        text: "# Write `CODEX_LOCAL_API_KEY=` and the key into ~/.continue/.env, and this into\n\
               # ~/.continue/config.yaml (what is there already stays, `models` grows by this entry):\n\
               name: Local\nversion: 1.0.0\nschema: v1\nmodels:\n  - name: Codex\n    provider: openai\n    model: @model@\n    apiBase: @v1@/\n    \
               apiKey: ${{ secrets.CODEX_LOCAL_API_KEY }}\n    roles: [chat, edit, apply]\n    \
               capabilities: [tool_use, image_input]\n    defaultCompletionOptions:\n      contextLength: @window@\n",
    },
    Client {
        name: "cline",
        title: "Cline",
        dialects: &[Chat],
        takes: "its settings page; the CLI a file, the key as a variable",
        needs: Needs::Tools,
        window: TOLD,
        env: &[],
        unset: &[],
        start: Start::Never("Cline takes the URL from its settings only"),
        text: "# In an editor:\n# 1. Open Cline's settings and choose the API provider \"OpenAI Compatible\".\n\
               # 2. Base URL: @v1@\n# 3. API key: the key\n# 4. Model ID: @model@\n\
               # 5. Model configuration: context window @window@, images supported.\n\
               # The CLI: have the key in the variable OPENAI_API_KEY, and this in ~/.cline/data/settings/providers.json\n\
               # (what is there already stays, `providers` grows by this entry):\n\
               {\n  \"version\": 1,\n  \"lastUsedProvider\": \"openai-compatible\",\n  \"providers\": {\n    \
               \"openai-compatible\": {\n      \"settings\": { \"provider\": \"openai-compatible\", \"model\": \"@model@\",\n        \
               \"baseUrl\": \"@v1@\", \"contextWindow\": @window@ },\n      \
               \"updatedAt\": \"2026-01-01T00:00:00.000Z\"\n    }\n  }\n}\n",
    },
    Client {
        name: "open-webui",
        title: "Open WebUI",
        dialects: &[Chat],
        takes: "its settings page",
        needs: Needs::Model,
        window: "",
        env: &[],
        unset: &[],
        start: Start::Never("Open WebUI keeps its connections in its database"),
        text: "# 1. Open Admin Panel, Settings, Connections, and add an OpenAI API connection.\n\
               # 2. URL: @v1@\n# 3. Key: the key\n# 4. Choose the model @model@ in a chat.\n\
               # In a container the address is the container's own: start that with --network=host.\n",
    },
    Client {
        name: "zed",
        title: "Zed",
        dialects: &[Chat],
        takes: "a file; the key on its settings page",
        needs: Needs::Tools,
        window: TOLD,
        env: &[],
        unset: &[],
        start: Start::Never("Zed takes models from its settings.json only"),
        text: "# Add to settings.json (`zed: open settings`), then give the key in the agent's settings under\n\
               # LLM Providers, codex_local, and choose the model there:\n\
               {\n  \"language_models\": {\n    \"openai_compatible\": {\n      \"codex_local\": {\n        \
               \"api_url\": \"@v1@\",\n        \"available_models\": [\n          { \"name\": \"@model@\", \
               \"display_name\": \"Codex\", \"max_tokens\": @window@,\n            \"capabilities\": { \
               \"tools\": true, \"images\": true, \"parallel_tool_calls\": true } }\n        ]\n      }\n    }\n  }\n}\n",
    },
    Client {
        name: "n8n",
        title: "n8n",
        dialects: &[Chat],
        takes: "its credentials page",
        needs: Needs::Tools,
        window: "",
        env: &[],
        unset: &[],
        start: Start::Never("n8n keeps credentials in its database"),
        text: "# 1. Create a credential of the type OpenAI.\n# 2. API Key: the key\n# 3. Base URL: @v1@\n\
               # 4. In the node \"OpenAI Chat Model\" choose it, and as the model, by ID: @model@\n\
               # In a container the address is the container's own: start that with --network=host.\n",
    },
    Client {
        name: "openclaw",
        title: "OpenClaw",
        dialects: &[Chat],
        takes: "a file; the key as a variable",
        needs: Needs::Tools,
        window: TOLD,
        env: &[],
        unset: &[],
        start: Start::Never("OpenClaw takes providers from its openclaw.json only"),
        text: "# Have the key in the variable CODEX_LOCAL_API_KEY of its gateway, and add to\n\
               # ~/.openclaw/openclaw.json:\n\
               {\n  \"models\": {\n    \"mode\": \"merge\",\n    \"providers\": {\n      \"codex-local\": {\n        \
               \"baseUrl\": \"@v1@\",\n        \"apiKey\": \"${CODEX_LOCAL_API_KEY}\",\n        \
               \"api\": \"openai-completions\",\n        \"models\": [\n          { \"id\": \"@model@\", \
               \"name\": \"Codex\", \"input\": [\"text\", \"image\"],\n            \"contextWindow\": @window@, \
               \"maxTokens\": 32000 }\n        ]\n      }\n    }\n  },\n  \"agents\": { \"defaults\": { \"model\": { \
               \"primary\": \"codex-local/@model@\" } } }\n}\n",
    },
];

impl Client {
    /// The client of that name.
    pub fn find(name: &str) -> Option<&'static Client> {
        CLIENTS.iter().find(|client| client.name == name)
    }

    /// What it speaks, for people.
    pub fn speaks(&self) -> Vec<&'static str> {
        let name = |dialect: &Dialect| match dialect {
            Dialect::Chat => "chat",
            Dialect::Responses => "responses",
            Dialect::Messages => "messages",
        };
        self.dialects.iter().map(name).collect()
    }
}

impl Needs {
    /// The settings that make it so, as flags.
    pub fn flags(self) -> &'static str {
        match self {
            Needs::Nothing => "",
            Needs::Model => "--profile model",
            Needs::Tools => "--engine app-server --profile model",
        }
    }

    /// Whether these will do.
    pub fn met(self, engine: &str, profile: &str) -> bool {
        match self {
            Needs::Nothing => true,
            Needs::Model => profile == "model",
            Needs::Tools => engine == "app-server" && profile == "model",
        }
    }
}
