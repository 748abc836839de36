// openai-node, unmodified, against the proxy. Run by tests/it/sdk.rs; ends with a trace on the first surprise.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const load = createRequire(`${process.env.OPENAI_MODULES}/`);
const { default: OpenAI } = load('openai');

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 }); // the environment names server and key
const PNG =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';

const ask = (content, more = {}, options = {}) =>
  client.chat.completions.create({ model: 'codex-local', messages: [{ role: 'user', content }], ...more }, options);

async function rejects(kind, promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${kind.name} expected, got ${error}`);
    return error;
  }
  assert.fail(`${kind.name} expected`);
}

const tests = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.equal(ids[0], 'codex-local');
    assert.equal((await client.models.retrieve('codex-local')).object, 'model');
    await rejects(OpenAI.NotFoundError, client.models.retrieve('no-such'));
  },
  async whole() {
    const answer = await ask('Reply with exactly: pong');
    assert.equal(answer.choices[0].message.content, 'pong');
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.equal(answer.usage.total_tokens, 18);
    assert.ok(answer._request_id);
  },
  async streamed() {
    let text = '';
    let last;
    for await (const chunk of await ask('Reply with exactly: one two three', { stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? '';
      last = chunk;
    }
    assert.equal(text, 'one two three');
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.total_tokens, 18);
    const runner = client.chat.completions.stream({
      model: 'codex-local',
      messages: [{ role: 'user', content: 'Reply with exactly: one two' }],
    });
    assert.equal(await runner.finalContent(), 'one two');
  },
  async choices() {
    const answer = await ask('Reply with exactly: pong', { n: 3 });
    assert.deepEqual(answer.choices.map((choice) => [choice.index, choice.message.content]), [[0, 'pong'], [1, 'pong'], [2, 'pong']]);
  },
  async structured() {
    const answer = await client.chat.completions.parse({
      model: 'codex-local',
      messages: [{ role: 'user', content: 'weather?' }],
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'weather',
          strict: true,
          schema: {
            type: 'object',
            additionalProperties: false,
            required: ['city', 'celsius'],
            properties: { city: { type: 'string' }, celsius: { type: 'number' } },
          },
        },
      },
    });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: 'text', celsius: 1.5 });
  },
  async images() {
    const answer = await ask([
      { type: 'text', text: 'Reply with exactly: seen' },
      { type: 'image_url', image_url: { url: PNG } },
    ]);
    assert.match(answer.choices[0].message.content, /seen/);
  },
  async errors() {
    const wrong = new OpenAI({ apiKey: 'wrong', maxRetries: 0 });
    assert.equal((await rejects(OpenAI.AuthenticationError, wrong.models.list())).code, 'invalid_api_key');
    assert.equal((await rejects(OpenAI.BadRequestError, ask('hi', { reasoning_effort: 'turbo' }))).param, 'reasoning_effort');
    assert.equal((await rejects(OpenAI.RateLimitError, ask('[[usage-limit]]'))).code, 'insufficient_quota');
    assert.equal((await rejects(OpenAI.InternalServerError, ask('[[fail=500]]', { stream: true }))).status, 502);
    await rejects(OpenAI.NotFoundError, client.embeddings.create({ model: 'x', input: 'y' }));
  },
  async responses() {
    const asked = (input, more = {}) => client.responses.create({ model: 'codex-local', input, ...more });
    const answer = await asked('Reply with exactly: pong', { instructions: 'Be brief.' });
    assert.equal(answer.output_text, 'pong');
    assert.equal(answer.usage.total_tokens, 18);
    assert.ok(answer._request_id);

    const events = [];
    for await (const event of await asked('Reply with exactly: one two three', { stream: true })) events.push(event);
    assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index));
    assert.equal(events[0].type, 'response.created');
    assert.equal(events.at(-1).response.output[0].content[0].text, 'one two three');
    const stream = client.responses.stream({ model: 'codex-local', input: 'Reply with exactly: one two' });
    assert.equal((await stream.finalResponse()).output_text, 'one two');

    const again = await asked([
      { role: 'user', content: 'one' },
      ...answer.output,
      { role: 'user', content: [{ type: 'input_text', text: 'Reply with exactly: three' }, { type: 'input_image', image_url: PNG, detail: 'auto' }] },
    ]);
    assert.match(again.output_text, /three/);

    const parsed = await client.responses.parse({
      model: 'codex-local',
      input: 'weather?',
      text: { format: { type: 'json_schema', name: 'weather', strict: true, schema: {
        type: 'object', additionalProperties: false, required: ['city'], properties: { city: { type: 'string' } },
      } } },
    });
    assert.deepEqual(parsed.output_parsed, { city: 'text' });
    assert.equal((await rejects(OpenAI.BadRequestError, asked('x', { previous_response_id: 'resp_1' }))).param, 'previous_response_id');
    await rejects(OpenAI.RateLimitError, asked('[[fail=429]]', { stream: true }));
    await rejects(OpenAI.NotFoundError, client.responses.retrieve('resp_1'));
  },
  async retries() {
    // A failed turn is never bought again behind the user's back, whatever the library's habit.
    let sent = 0;
    const eager = new OpenAI({ maxRetries: 3, fetch: (...args) => (sent++, fetch(...args)) });
    const body = (content) => ({ model: 'codex-local', messages: [{ role: 'user', content }] });
    await rejects(OpenAI.RateLimitError, eager.chat.completions.create(body('[[fail=429]]')));
    await rejects(OpenAI.InternalServerError, eager.chat.completions.create(body('[[fail=500]]')));
    assert.equal(sent, 2);
  },
  async abort() {
    // Leaves a turn that hangs upstream once the test, which can see it there, says so.
    const controller = new AbortController();
    process.stdin.once('data', () => controller.abort());
    await rejects(OpenAI.APIUserAbortError, ask('[[hang]]', {}, { signal: controller.signal }));
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`openai-node: ${name} ok`);
}
process.exit(0);
