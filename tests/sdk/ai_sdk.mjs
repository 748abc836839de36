// Vercel's AI SDK, unmodified, against the proxy: its default OpenAI provider, which speaks Responses, and Anthropic's.
// Run by tests/it/libraries.rs; ends with a trace on the first surprise.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const load = createRequire(`${process.env.OPENAI_MODULES}/`);
const { generateText, streamText, Output, stepCountIs, tool, APICallError } = load('ai');
const { openai } = load('@ai-sdk/openai');
const { anthropic } = load('@ai-sdk/anthropic');
const { z } = load('zod');

const tools = {
  weather: tool({
    description: 'The weather in a city.',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `rain in ${city}`,
  }),
};

async function whole(ask) {
  const { text, steps, response, totalUsage } = await generateText(ask);
  return { text, steps, messages: response.messages, usage: totalUsage };
}

async function streamed(ask) {
  const result = streamText(ask);
  let text = '';
  for await (const part of result.textStream) text += part;
  const [steps, response, usage] = await Promise.all([result.steps, result.response, result.totalUsage]);
  return { text, steps, messages: response.messages, usage };
}

async function loop(model, marker, way) {
  const messages = [{ role: 'user', content: `${marker}: weather in Oslo and Rome` }];
  const first = await way({ model, tools, messages, stopWhen: stepCountIs(5) });
  assert.equal(first.text, 'Rain in both.');
  assert.equal(first.steps.length, 2);
  assert.equal(first.usage.outputTokens, 14);
  // What was said before comes back as references to it, or whole.
  messages.push(...first.messages, { role: 'user', content: 'Are you sure?' });
  const second = await way({ model, tools, messages });
  assert.equal(second.text, 'Quite.');
}

for (const [name, model] of [
  ['openai', openai('codex-local')],
  ['anthropic', anthropic('claude-opus-4-8')],
]) {
  console.error('AI SDK', name);
  await loop(model, `mark-${name}-whole`, whole);
  await loop(model, `mark-${name}-streamed`, streamed);
  const schema = z.object({ city: z.string(), wet: z.boolean() });
  const { output } = await generateText({ model, output: Output.object({ schema }), prompt: `mark-structured-${name}: Oslo` });
  assert.deepEqual(output, { city: 'Oslo', wet: true });
  const failed = await generateText({ model, prompt: `mark-fails-${name}`, maxRetries: 0 }).catch((error) => error);
  assert.ok(APICallError.isInstance(failed) && failed.statusCode === 502, `${failed}`);
}
