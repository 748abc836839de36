// anthropic-node, unmodified, against the proxy. Run by tests/it/libraries.rs; ends with a trace on the first surprise.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const load = createRequire(`${process.env.OPENAI_MODULES}/`);
const { default: Anthropic } = load('@anthropic-ai/sdk');

const client = new Anthropic(); // the environment names server and key; retries are the library's own
const base = { model: 'claude-opus-4-8', max_tokens: 1000 };
const WEATHER = {
  name: 'weather',
  description: 'The weather in a city.',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};

const whole = (ask) => client.messages.create(ask);
const streamed = (ask) => client.messages.stream(ask).finalMessage();

async function loop(marker, way) {
  const messages = [{ role: 'user', content: `${marker}: weather in Oslo and Rome` }];
  const ask = () => way({ ...base, messages, tools: [WEATHER], thinking: { type: 'adaptive' } });
  const first = await ask();
  assert.equal(first.stop_reason, 'tool_use');
  const calls = first.content.filter((block) => block.type === 'tool_use');
  assert.deepEqual(calls.map((call) => call.input.city), ['Oslo', 'Rome']);
  const results = calls.map((call) => ({ type: 'tool_result', tool_use_id: call.id, content: `rain in ${call.input.city}` }));
  messages.push({ role: 'assistant', content: first.content }, { role: 'user', content: results });
  const second = await ask();
  assert.equal(second.content.at(-1).text, 'Rain in both.');
  assert.equal(second.usage.output_tokens, 7);
  messages.push({ role: 'assistant', content: second.content }, { role: 'user', content: 'Are you sure?' });
  assert.equal((await ask()).content.at(-1).text, 'Quite.');
}

const tests = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.equal(ids[0], 'codex-local');
  },
  whole: () => loop('mark-anthropic-whole', whole),
  streamed: () => loop('mark-anthropic-streamed', streamed),
  async runner() {
    // Asks for a thread first, and goes on without when it is told that there are none.
    const run = ({ city }) => `rain in ${city}`;
    const tools = [{ ...WEATHER, run, parse: (input) => input }];
    const messages = [{ role: 'user', content: 'mark-runner: weather in Oslo and Rome' }];
    const last = await client.beta.messages.toolRunner({ ...base, messages, tools });
    assert.equal(last.content.at(-1).text, 'Rain in both.');
  },
  async counted() {
    const count = await client.messages.countTokens({ model: base.model, messages: [{ role: 'user', content: '12345678' }] });
    assert.equal(count.input_tokens, 2);
  },
  async fails() {
    for (const [name, way] of [['whole', whole], ['streamed', streamed]]) {
      const ask = { ...base, messages: [{ role: 'user', content: `mark-fails-${name}` }] };
      const failed = await way(ask).catch((error) => error);
      assert.ok(failed instanceof Anthropic.InternalServerError && failed.status === 502, `${failed}`);
    }
  },
};

for (const [name, test] of Object.entries(tests)) {
  console.error('anthropic-node', name);
  await test();
}
