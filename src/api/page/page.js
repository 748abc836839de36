'use strict';
// The page's script. What it is told becomes text, never markup; the key is in one variable and nowhere else.
(() => {
  const $ = id => document.getElementById(id);
  const state = {
    key: null, // as it was typed
    asking: null, // why the key is asked for: 'wanted' or 'wrong'
    link: 'opening', // of the stream: opening, open, asleep, lost, refused
    why: '',
    usage: null,
    ahead: 0, // seconds that the server's clock is ahead of ours
    tries: 0,
    clients: [],
    client: 'curl',
  };

  // ---- words

  const number = new Intl.NumberFormat();
  const short = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });
  const percent = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 0 });
  const tenths = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 1 });
  const pace = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
  const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
  const clockSeconds = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long', hour: '2-digit', minute: '2-digit' });
  const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

  const now = () => Date.now() / 1000 + state.ahead;
  const known = value => value !== null && value !== undefined;
  const count = value => (known(value) ? number.format(value) : '–');
  const plural = (n, one, many) => `${number.format(n)} ${n === 1 ? one : many}`;
  const share = (part, whole) => (whole > 0 ? percent.format(part / whole) : '–');

  // A moment: the clock today, the weekday in the days around, else the date.
  function moment(at) {
    const date = new Date(at * 1000);
    if (date.toDateString() === new Date(now() * 1000).toDateString()) return clock.format(date);
    return (Math.abs(at - now()) < 6 * 86400 ? weekday : day).format(date);
  }

  function span(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  }

  function duration(ms) {
    if (!known(ms)) return '–';
    return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
  }

  // ---- nodes

  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function el(tag, attributes, ...inside) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== false) node.setAttribute(name, value === true ? '' : value);
    }
    node.append(...inside.filter(known));
    return node;
  }

  // Makes the children of a node follow a list; who has the same name stays, and with it focus and selection.
  function follow(parent, items, name, make, fill) {
    const before = new Map([...parent.children].map(child => [child.dataset.name, child]));
    let place = parent.firstElementChild;
    for (const item of items) {
      const id = String(name(item));
      let child = before.get(id);
      before.delete(id);
      if (!child) {
        child = make(item);
        child.dataset.name = id;
      }
      if (child === place) place = place.nextElementSibling;
      else parent.insertBefore(child, place);
      fill(child, item);
    }
    for (const child of before.values()) {
      // Who works here by keyboard must not be thrown to the top of the page.
      if (child.contains(document.activeElement)) child.closest('section').querySelector('h2').focus();
      child.remove();
    }
  }

  // The cells of a child, by their names.
  const part = (node, name) => node.querySelector(`[data-part="${name}"]`);
  const put = (node, name, text) => set(part(node, name), text);

  let silence;
  function say(text) {
    const said = $('said');
    said.textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => { said.textContent = ''; }, 6000);
  }

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Only secure contexts have a clipboard; a name of this machine other than localhost makes none.
      const area = el('textarea', { readonly: true, class: 'hidden', 'aria-hidden': 'true' });
      const focused = document.activeElement;
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand('copy');
      area.remove();
      if (focused) focused.focus();
      if (!done) return say('The browser does not let this page copy; select the text instead.');
    }
    return say(`Copied: ${what || text}`);
  }

  // ---- asking

  class Refused extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
  }

  async function ask(path, options = {}) {
    const key = state.key;
    const headers = { accept: 'application/json', ...options.headers };
    if (key !== null) headers.authorization = `Bearer ${key}`;
    const answer = await fetch(path, {
      ...options, headers, cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer',
    });
    if (answer.ok) return answer;
    let message = `status ${answer.status}`;
    try {
      message = (await answer.json()).error.message || message;
    } catch { /* The status says enough. */ }
    if (answer.status === 401 && key === state.key) askKey(key === null ? 'wanted' : 'wrong');
    throw new Refused(answer.status, message);
  }

  function askKey(why) {
    stream.stop();
    state.asking = why;
    state.key = null;
    state.usage = null;
    showAll();
    $('key').value = '';
    $('key').focus();
  }

  // ---- the stream of states

  // Server-sent events, read by hand: EventSource sends no headers, and a key has no place in a URL.
  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.search(/\r?\n\r?\n/); end >= 0; end = text.search(/\r?\n\r?\n/)) {
        const event = { name: 'message', data: [] };
        for (const line of text.slice(0, end).split(/\r?\n/)) {
          const [, field, rest] = /^([^:]*):? ?(.*)$/.exec(line);
          if (field === 'event') event.name = rest;
          if (field === 'data') event.data.push(rest);
        }
        text = text.slice(end).replace(/^\r?\n\r?\n/, '');
        if (event.data.length) yield { name: event.name, data: event.data.join('\n') };
      }
    }
  }

  const stream = {
    control: null,
    timer: null,
    stop() {
      clearTimeout(this.timer);
      if (this.control) this.control.abort();
      this.control = null;
    },
    async start() {
      this.stop();
      const control = new AbortController();
      this.control = control;
      if (state.link !== 'lost') state.link = 'opening';
      showLink();
      let why = '';
      try {
        const answer = await ask('events', { signal: control.signal, headers: { accept: 'text/event-stream' } });
        state.link = 'open';
        state.asking = null;
        learn();
        for await (const event of events(answer.body)) {
          if (control.signal.aborted) return;
          if (event.name !== 'usage') continue;
          state.tries = 0;
          state.usage = JSON.parse(event.data);
          state.ahead = state.usage.now - Date.now() / 1000;
          showAll();
        }
      } catch (error) {
        if (control.signal.aborted) return;
        why = error instanceof Refused ? error.message : '';
        if (error instanceof Refused && error.status === 401) return;
        state.asking = null;
        state.link = error instanceof Refused ? 'refused' : 'lost';
      }
      if (control.signal.aborted) return;
      state.why = why;
      if (state.link === 'open') state.link = 'lost';
      // It went to sleep for want of work: calling would wake it, for nothing, again and again.
      if (state.usage && state.usage.ready.reason === 'idle') state.link = 'asleep';
      if (state.link !== 'asleep') {
        this.timer = setTimeout(() => this.start(), 1000 * Math.min(30, 2 ** state.tries));
        state.tries += 1;
      }
      showAll();
    },
  };

  // What does not change while the service runs.
  async function learn() {
    try {
      const [clients, models] = await Promise.all([ask('clients'), ask('v1/models')]);
      state.clients = (await clients.json()).clients;
      showClients();
      showModels((await models.json()).data);
    } catch (error) {
      if (error instanceof Refused && error.status !== 401) set($('models-note'), error.message);
    }
  }

  // ---- 1: whether it works

  function situation() {
    const { usage, link } = state;
    const quiet = 'What is shown below is from before.';
    if (state.asking === 'wrong') return ['warn', 'That key is not accepted', 'It must be one of those in api_key or api_key_file.'];
    if (state.asking) return ['warn', 'The API key is needed', 'This service answers only who has its key.'];
    if (link === 'asleep') {
      return ['wait', 'Asleep', `It had nothing to do and ended; the next request starts it again. ${quiet}`];
    }
    if (link === 'refused') return ['bad', 'Refused', `${state.why} This page tries again.`];
    if (link === 'lost') {
      const stopped = usage && usage.ready.reason === 'draining';
      return ['bad', stopped ? 'Stopped' : 'No answer',
        `${stopped ? 'It was told to stop; turns that ran then may still end.' : 'The service is not there.'} This page looks for it again. ${usage ? quiet : ''}`,
        'codex-api-proxy start'];
    }
    if (!usage) return null;
    const { ready, plan } = usage;
    if (ready.status !== 'ready') return ['bad', 'Not ready', ready.message || ready.reason || '', ready.fix];
    if (plan && plan.limited) {
      const ends = plan.windows.filter(window => window.used_percent >= 100).map(window => window.resets_at);
      const when = ends.length ? ` It resets ${moment(Math.max(...ends))}.` : '';
      return ['warn', 'The plan’s limit is reached', `Codex refuses turns until it resets.${when}`];
    }
    return ['good', 'Working', usage.service.base_url ? 'Ready for requests. The base URL for clients:' : 'Ready for requests.', address(usage.service.base_url || '')];
  }

  // As the browser came here, where a proxy speaks TLS for us.
  function address(text) {
    return location.protocol === 'https:' ? text.replaceAll(`http://${location.host}`, location.origin) : text;
  }

  function showState() {
    const found = situation();
    if (found) {
      const [kind, title, text, command] = found;
      const section = $('state');
      if (section.dataset.kind !== kind) section.dataset.kind = kind;
      set($('state-title'), title);
      set($('state-text'), text);
      $('state-command').hidden = !command;
      set($('state-command').querySelector('code'), command || '');
      document.title = kind === 'good' ? 'codex-api-proxy' : `${title} · codex-api-proxy`;
    }
    $('key-form').hidden = !state.asking;
    $('again').hidden = !(state.link === 'asleep' || state.link === 'lost' || state.link === 'refused') || Boolean(state.asking);
    showLink();
  }

  function showLink() {
    const said = {
      opening: 'Connecting…', open: 'Live', asleep: 'Not connected', lost: 'Not connected', refused: 'Not connected',
    }[state.link];
    const turns = state.link === 'open' && state.usage ? state.usage.turns : null;
    set($('link'), state.asking ? '' : [
      state.usage ? state.usage.service.version : null, said,
      turns && turns.running.length ? `${number.format(turns.running.length)} running` : null,
      turns && turns.queued.length ? `${number.format(turns.queued.length)} waiting` : null,
    ].filter(known).join(' · '));
  }

  // ---- 2: the plan

  function showPlan({ plan }) {
    $('windows').hidden = !plan;
    if (!plan) {
      set($('plan-note'), 'Not told. Codex reports the windows of a ChatGPT plan, with a turn or when asked.');
      return;
    }
    const credits = plan.credits && (plan.credits.unlimited ? ' · credits: unlimited'
      : known(plan.credits.balance) ? ` · credits: ${plan.credits.balance}` : '');
    const type = plan.type ? `${plan.type[0].toUpperCase()}${plan.type.slice(1)} · ` : '';
    const age = now() - plan.reported_at;
    set($('plan-note'), `${type}${type ? 'reported' : 'Reported'} by Codex ${age < 5 ? 'just now' : `${span(age)} ago`}${credits || ''}`);
    follow($('windows'), plan.windows, window => window.name, window => el('div', { class: 'window' },
      el('div', { class: 'top' }, el('h3', { 'data-part': 'name' }), el('span', { class: 'used', 'data-part': 'used' })),
      el('div', { class: 'meter', role: 'meter', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-label': `${window.name}: used` },
        el('span', { class: 'fill' }), el('span', { class: 'even', title: 'where an even pace would be' })),
      el('p', { class: 'quiet', 'data-part': 'when' }), el('p', { 'data-part': 'pace' })), fillWindow);
  }

  function fillWindow(node, window) {
    const told = known(window.used_percent);
    const used = told ? window.used_percent : 0;
    put(node, 'name', window.name);
    put(node, 'used', told ? tenths.format(used / 100) : 'not told since');
    const meter = node.querySelector('.meter');
    meter.className = `meter${used >= 100 ? ' full' : used >= 85 || known(window.empty_at) ? ' high' : ''}`;
    meter.setAttribute('aria-valuenow', String(Math.min(100, used)));
    meter.setAttribute('aria-valuetext', told ? `${tenths.format(used / 100)} used` : 'not told since it reset');
    meter.style.setProperty('--used', String(Math.max(0, Math.min(100, used))));
    const whole = known(window.resets_at) && known(window.minutes) && window.minutes > 0;
    const left = whole ? (window.resets_at - now()) / (window.minutes * 60) : 0;
    node.querySelector('.even').hidden = !whole || left <= 0 || left > 1;
    meter.style.setProperty('--elapsed', String(100 * (1 - left)));
    const resets = known(window.resets_at);
    put(node, 'when', !resets ? 'When it resets is not told.'
      : window.resets_at <= now() ? 'Has reset since.' : `Resets ${moment(window.resets_at)}, in ${span(window.resets_at - now())}`);
    const line = part(node, 'pace');
    line.className = known(window.empty_at) ? 'warn' : 'quiet';
    set(line, known(window.empty_at) ? `At this rate empty ${moment(window.empty_at)} (${pace.format(window.pace)} × an even pace)`
      : known(window.pace) && used < 100 ? `${pace.format(window.pace)} × an even pace: lasts at this rate` : '');
  }

  // ---- 3: today

  function showToday({ today }) {
    const total = today.total;
    const tiles = [
      ['Requests', total.requests, ''], ['Failures', total.failures, total.failures ? 'bad' : ''],
      ['Input tokens', total.input_tokens, ''],
      ['Of it cached', share(total.cached_tokens, total.input_tokens), 'lead'], ['Output tokens', total.output_tokens, ''],
    ];
    follow($('totals'), tiles, tile => tile[0], ([name]) => el('div', {}, el('dt', {}, name), el('dd', { 'data-part': 'value' })),
      (node, [, value, kind]) => {
        node.className = kind;
        const whole = typeof value === 'number' ? number.format(value) : value;
        put(node, 'value', typeof value === 'number' && value >= 100000 ? short.format(value) : whole);
        part(node, 'value').title = whole;
      });
    const since = today.from === 'start' ? `Since the service started, ${moment(today.since)}.` : 'Since midnight, through this service.';
    const unknown = total.tokens_unknown ? ` Of ${plural(total.tokens_unknown, 'turn', 'turns')} Codex did not tell the tokens.` : '';
    set($('today-note'), since + unknown);
    const groups = [['Model', today.by_model], ['Caller', today.by_caller]].filter(([, rows]) => rows.length);
    follow($('shares'), groups, group => group[0], ([title]) => el('table', {},
      el('caption', { class: 'hidden' }, `Today by ${title.toLowerCase()}`),
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, title),
        ...['Requests', 'Input', 'Cached', 'Output'].map(head => el('th', { scope: 'col', class: 'number' }, head)))),
      el('tbody')), (table, [, rows]) => follow(table.tBodies[0], rows, row => row.name, row => el('tr', {},
      el('th', { scope: 'row' }, row.name), ...['requests', 'input', 'cached', 'output'].map(
        name => el('td', { class: 'number', 'data-part': name }))), (node, row) => {
      put(node, 'requests', count(row.requests));
      put(node, 'input', row.input_tokens >= 100000 ? short.format(row.input_tokens) : count(row.input_tokens));
      put(node, 'cached', share(row.cached_tokens, row.input_tokens));
      put(node, 'output', row.output_tokens >= 100000 ? short.format(row.output_tokens) : count(row.output_tokens));
    }));
  }

  // ---- 4: turns

  function showTurns({ turns }) {
    const all = [
      ...turns.running.map(turn => ({ ...turn, kind: 'running' })), ...turns.queued.map(turn => ({ ...turn, kind: 'queued' })),
    ];
    set($('turns-note'), all.length ? '' : 'None is running, none is waiting.');
    follow($('turn-list'), all, turn => turn.id, turn => el('li', {},
      el('span', { class: 'what', 'data-part': 'what' }), el('span', { 'data-part': 'caller' }), el('span', { 'data-part': 'model' }),
      el('span', { class: 'quiet', 'data-part': 'since' }), el('span', { class: 'quiet', 'data-part': 'characters' }),
      turn.may_interrupt ? el('button', { type: 'button', 'aria-label': `Interrupt the turn of ${turn.caller}` }, 'Interrupt') : null),
    (node, turn) => {
      node.className = turn.kind;
      put(node, 'what', turn.kind === 'running' ? 'Running' : 'Waiting');
      put(node, 'caller', turn.caller);
      put(node, 'model', turn.model);
      put(node, 'since', `since ${clockSeconds.format(new Date(turn.since * 1000))}, ${span(now() - turn.since)}`);
      put(node, 'characters', turn.kind === 'running' ? plural(turn.characters, 'character', 'characters') : '');
    });
  }

  async function interrupt(button, id) {
    button.disabled = true;
    try {
      await ask(`turns/${encodeURIComponent(id)}/interrupt`, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}',
      });
      say('The turn is interrupted.');
    } catch (error) {
      button.disabled = false;
      say(error instanceof Refused ? error.message : 'The service does not answer.');
    }
  }

  // ---- 5: clients

  function showClients() {
    follow($('client-names'), state.clients, client => client.name, client => el('label', {},
      el('input', { type: 'radio', name: 'client', value: client.name }), el('span', {}, client.title)),
    (node, client) => { node.firstElementChild.checked = client.name === state.client; });
    showClient();
  }

  function showClient() {
    const client = state.clients.find(known => known.name === state.client) || state.clients[0];
    $('client').hidden = !client;
    $('client-needs').hidden = !(client && client.needs);
    if (!client) return;
    set($('client-needs'), client.needs || '');
    set($('client').querySelector('pre'), address(client.text));
  }

  // ---- 6: models

  function showModels(models) {
    set($('models-note'), models.length ? 'Any of these may stand as "model".' : 'None is told.');
    const about = model => [
      known(model.context_window) ? `${number.format(model.context_window)} tokens` : null,
      known(model.root) && model.root !== model.id ? `stands for ${model.root}` : null,
    ].filter(known).join(' · ');
    follow($('model-list'), models, model => model.id, model => el('li', {},
      el('code', {}, model.id), el('span', { class: 'quiet', 'data-part': 'about' })), (node, model) => put(node, 'about', about(model)));
    const chosen = $('model').value;
    $('model').replaceChildren(...models.map(model => el('option', { value: model.id }, model.id)));
    $('model').value = models.some(model => model.id === chosen) ? chosen : models.length ? models[0].id : '';
  }

  // ---- 7: recent requests

  const COLUMNS = [
    ['at', 'Time', ''], ['caller', 'Caller', ''], ['model', 'Model', ''], ['status', 'Status', ''],
    ['first', 'First content', 'number'], ['total', 'Total', 'number'], ['input', 'Input (cached)', 'number'],
    ['output', 'Output', 'number'], ['id', 'Request', 'id'],
  ];

  function showRecent({ recent }) {
    set($('recent-note'), recent.length ? '' : 'None yet.');
    // Roles, because a narrow screen lays the table out as cards, which would take them away.
    follow($('recent-table'), recent.length ? ['table'] : [], name => name, () => el('table', { role: 'table', 'aria-labelledby': 'recent-title' },
      el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
        ...COLUMNS.map(([, title, kind]) => el('th', { scope: 'col', role: 'columnheader', class: kind }, title)),
        el('th', { role: 'columnheader', scope: 'col' }, el('span', { class: 'hidden' }, 'Journal')))),
      el('tbody', { role: 'rowgroup' })), table => follow(table.tBodies[0], recent, request => `${request.request_id} ${request.at}`,
      request => el('tr', { role: 'row' },
        ...COLUMNS.map(([name, title, kind]) => el('td', { role: 'cell', class: kind, 'data-label': title },
          el(name === 'id' ? 'code' : 'span', { 'data-part': name }))),
        el('td', { role: 'cell', class: 'end' }, el('button', {
          type: 'button', class: 'copy', title: request.journal, 'data-journal': request.journal, hidden: !request.journal,
        }, 'Copy journal', el('span', { class: 'hidden' }, ` command of ${request.request_id}`)))), fillRequest));
  }

  function fillRequest(node, request) {
    const date = new Date(request.at * 1000);
    put(node, 'at', now() - request.at < 86400 ? clockSeconds.format(date) : day.format(date));
    part(node, 'at').title = full.format(date);
    put(node, 'caller', request.caller);
    put(node, 'model', request.model || '–');
    const status = part(node, 'status');
    status.className = `status ${request.status}`;
    set(status, request.status === 'ok' ? 'ok' : `${request.status} ${request.http_status}`);
    status.title = request.error_type || '';
    put(node, 'first', duration(request.first_content_ms));
    put(node, 'total', duration(request.total_ms));
    put(node, 'input', known(request.input_tokens) ? `${count(request.input_tokens)} (${share(request.cached_tokens || 0, request.input_tokens)})` : '–');
    put(node, 'output', count(request.output_tokens));
    put(node, 'id', request.request_id);
  }

  // ---- 8: a prompt

  let trying = null;

  async function send() {
    if (trying) return;
    trying = new AbortController();
    const text = $('answer').querySelector('pre');
    const said = $('try-said');
    const begun = performance.now();
    let first = null, finished = false, reason = null, usage = null;
    text.textContent = '';
    text.setAttribute('aria-busy', 'true');
    said.className = 'quiet';
    set(said, 'Asked…');
    $('answer').hidden = true;
    $('stop').hidden = false;
    try {
      const answer = await ask('v1/chat/completions', {
        method: 'POST', signal: trying.signal, headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
        body: JSON.stringify({
          model: $('model').value, stream: true, stream_options: { include_usage: true },
          messages: [{ role: 'user', content: $('prompt').value }],
        }),
      });
      for await (const { data } of events(answer.body)) {
        if (data === '[DONE]') { finished = true; break; }
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Refused(0, chunk.error.message);
        if (chunk.usage) usage = chunk.usage;
        for (const choice of chunk.choices || []) {
          if (choice.finish_reason) reason = choice.finish_reason;
          if (!choice.delta || !choice.delta.content) continue;
          if (first === null) {
            first = performance.now() - begun;
            set(said, 'Answering…');
            $('answer').hidden = false;
          }
          text.append(choice.delta.content);
        }
      }
      if (!finished) throw new Refused(0, 'The answer was cut: the connection ended before its end.');
      const cached = usage && usage.prompt_tokens_details ? usage.prompt_tokens_details.cached_tokens : 0;
      set(said, [
        reason === 'length' ? 'Ended at the output limit' : first === null ? 'The answer is empty' : 'Done',
        `first content ${duration(first)}`, `total ${duration(performance.now() - begun)}`,
        usage ? `${count(usage.prompt_tokens)} in (${share(cached, usage.prompt_tokens)} cached), ${count(usage.completion_tokens)} out` : 'tokens not told',
      ].join(' · '));
    } catch (error) {
      said.className = trying.signal.aborted ? 'quiet' : 'warn';
      set(said, trying.signal.aborted ? 'Stopped.' : error instanceof Refused ? error.message : 'The connection was lost.');
    }
    trying = null;
    text.removeAttribute('aria-busy');
    if (document.activeElement === $('stop')) $('prompt').focus();
    $('stop').hidden = true;
  }

  // ---- 9: the service

  function showFacts({ service }) {
    const facts = [
      ['Version', service.version], ['Codex CLI', service.codex_version || 'not found'], ['Engine', service.engine],
      ['Profile', service.profile], ['Isolation', service.isolation], ['Reads of agents', service.agent_reads],
      ['Continuation', service.continuation], ['Unit', service.unit || 'none: started by hand'],
      ['Started', moment(service.started_at)], ['API key', service.key_required ? 'required' : 'none'],
    ].filter(fact => known(fact[1]));
    follow($('facts'), facts.flatMap(([name, value]) => [['dt', name, name], ['dd', `${name} is`, value]]), fact => fact[1],
      ([tag]) => el(tag), (node, [, , text]) => set(node, text));
  }

  // ---- all of it

  function showAll() {
    showState();
    const usage = state.usage;
    for (const section of document.querySelectorAll('main > section:not(#state)')) section.hidden = Boolean(state.asking);
    if (!usage) return;
    showPlan(usage);
    showToday(usage);
    showTurns(usage);
    showRecent(usage);
    showFacts(usage);
  }

  document.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.id === 'again') {
      state.tries = 0;
      stream.start();
    } else if (button.id === 'stop') {
      if (trying) trying.abort();
    } else if (button.dataset.journal) {
      copy(button.dataset.journal);
    } else if (button.classList.contains('copy')) {
      const text = button.parentElement.querySelector('code, pre').textContent;
      copy(text, text.includes('\n') ? 'the whole text' : text);
    } else if (button.closest('#turn-list')) {
      interrupt(button, button.closest('li').dataset.name);
    }
  });
  $('client-names').addEventListener('change', event => {
    state.client = event.target.value;
    showClient();
  });
  $('key-form').addEventListener('submit', event => {
    event.preventDefault();
    // A header takes no other characters; such a key cannot be right.
    const key = $('key').value.trim();
    state.key = key;
    state.tries = 0;
    if (/^[\x21-\x7e]+$/.test(key)) stream.start();
    else askKey('wrong');
  });
  $('try-form').addEventListener('submit', event => {
    event.preventDefault();
    send();
  });
  $('prompt').addEventListener('keydown', event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      $('try-form').requestSubmit();
    }
  });
  // A page that nobody sees needs no stream, and a browser has few connections for one server.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) stream.stop();
    else if (!state.asking && state.link !== 'asleep') stream.start();
  });
  // Ages and waits go on by themselves.
  setInterval(() => {
    if (document.hidden || !state.usage || state.asking || state.link !== 'open') return;
    showPlan(state.usage);
    showTurns(state.usage);
  }, 1000);

  stream.start();
})();
