// The `ws` library of Node.js against the daemon at WALCAST_URL.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';

const base = process.env.WALCAST_URL;
const feed = `${base.replace('http', 'ws')}/ws/remediation`;
const patience = { timeout: 60_000 };

async function open(query = '', protocols = [], options = {}) {
    const socket = new WebSocket(feed + query, protocols, options);
    socket.texts = [];
    socket.on('message', (data, isBinary) => {
        assert.equal(isBinary, false);
        socket.texts.push(data.toString());
        socket.emit('text');
    });
    await once(socket, 'open');
    return socket;
}

async function next(socket) {
    while (socket.texts.length === 0) await once(socket, 'text');
    return socket.texts.shift();
}

async function closed(socket) {
    const [code, reason] = await once(socket, 'close');
    return [code, reason.toString()];
}

async function insert(details) {
    const answer = await fetch(`${base}/api/feeds/remediation/events`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ ts: 'now', details }),
    });
    assert.equal(answer.status, 201);
    return (await answer.json()).ids[0];
}

test('rows come live and again by resuming', patience, async () => {
    const live = await open();
    const id = await insert('é');
    assert.deepEqual(JSON.parse(await next(live)).event, {
        id, ts: 'now', alertname: null, tenant: null, action: null, status: null, details: 'é',
    });
    live.close();
    const resumed = await open(`?since=${id - 1}`);
    assert.equal(JSON.parse(await next(resumed)).type, 'hello');
    assert.equal(JSON.parse(await next(resumed)).event.id, id);
    assert.deepEqual(JSON.parse(await next(resumed)), { type: 'live', id });
    resumed.close();
});

test('the handshake agrees on the subprotocol, and on compression where it is offered', patience, async () => {
    const socket = await open('', ['walcast.v1']);
    assert.equal(socket.protocol, 'walcast.v1');
    assert.equal(socket.extensions, 'permessage-deflate');
    socket.close();
    const plain = await open('', [], { perMessageDeflate: false });
    assert.equal(plain.extensions, '');
    plain.close();
});

test('rows are the same whatever is offered', patience, async () => {
    const before = await insert('first');
    const texts = ['', 'x', 'é'.repeat(490), 'word '.repeat(90), Array.from({ length: 480 }, (_, n) => (n * n) % 7).join('')];
    for (const text of texts) await insert(text);
    const offers = [false, true];
    for (const serverMaxWindowBits of [undefined, 8, 9, 12, 15])
        for (const clientMaxWindowBits of [undefined, 9, true])
            offers.push({ serverMaxWindowBits, clientMaxWindowBits, threshold: 0 });
    for (const perMessageDeflate of offers) {
        const socket = await open(`?since=${before}`, [], { perMessageDeflate });
        assert.equal(socket.extensions, perMessageDeflate ? 'permessage-deflate' : '');
        assert.equal(JSON.parse(await next(socket)).type, 'hello');
        for (const text of texts)
            assert.equal(JSON.parse(await next(socket)).event.details, text, JSON.stringify(perMessageDeflate));
        assert.equal(JSON.parse(await next(socket)).type, 'live');
        socket.send(' '.repeat(4000));
        socket.send('ping');
        assert.equal(await next(socket), 'pong');
        socket.close();
    }
});

test('pings of both kinds are answered', patience, async () => {
    const socket = await open();
    socket.ping('there?');
    assert.equal((await once(socket, 'pong'))[0].toString(), 'there?');
    socket.send('ping\n');
    assert.equal(await next(socket), 'pong');
    socket.send('pi', { fin: false });
    socket.send('ng', { fin: true });
    assert.equal(await next(socket), 'pong');
    for (let n = 0; n < 500; n++) socket.ping();
    socket.send('{"type":"ping"}');
    assert.equal(await next(socket), '{"type":"pong"}');
    socket.close();
});

test('a close is answered with its own code', patience, async () => {
    for (const code of [1000, 3000, 4321]) {
        const socket = await open();
        socket.close(code, 'bye');
        assert.deepEqual(await closed(socket), [code, '']);
    }
    const without = await open();
    without.close();
    assert.deepEqual(await closed(without), [1005, '']);
});

test('messages that are too large or too many end the connection with their code', patience, async () => {
    for (const size of [4097, 70_000, 3 << 20]) {
        const socket = await open();
        socket.send('x'.repeat(4096));
        socket.send('x'.repeat(size));
        assert.deepEqual(await closed(socket), [1009, ''], `${size} bytes`);
    }
    const talker = await open();
    for (let n = 0; n < 100; n++) talker.send('x');
    assert.deepEqual(await closed(talker), [1008, '']);
});
