// A Socket.IO server as a Node team would put it between browsers and services on NATS: an event of a
// service goes to the room that is named as the event's subject. One process, with Socket.IO's
// defaults (no permessage-deflate, no adapter of several servers), for WebSocket only.
//
// A client joins with the event "subscribe"; the acknowledgement has no argument, or says what is
// wrong. It has no access control and no states: that would be the team's own work.
import { createServer } from 'node:http';
import { connect } from '@nats-io/transport-node';
import { Server } from 'socket.io';

const nats = await connect({ servers: process.env.NATS_URL });
const http = createServer();
const io = new Server(http, { transports: ['websocket'] });

// The subscriptions on NATS by room, each as long as the room has clients.
const followed = new Map();

// follow resolves when the NATS server has the room's subscription.
function follow(room) {
  let f = followed.get(room);
  if (!f) {
    const subscription = nats.subscribe(room, {
      callback: (err, event) => {
        if (!err) io.to(room).emit(room, event.json());
      },
    });
    f = { subscription, ready: nats.flush() };
    followed.set(room, f);
  }
  return f.ready;
}

io.of('/').adapter.on('delete-room', (room) => {
  followed.get(room)?.subscription.unsubscribe();
  followed.delete(room);
});

io.on('connection', (socket) => {
  socket.on('subscribe', async (room, done) => {
    if (typeof room !== 'string' || !/^\w+(\.\w+)*$/.test(room) || typeof done !== 'function') {
      socket.disconnect(true);
      return;
    }
    try {
      await follow(room);
      await socket.join(room);
      done();
    } catch (err) {
      done(String(err));
    }
  });
});

nats.closed().then((err) => {
  console.error('NATS is lost:', err);
  process.exit(1);
});
http.listen(Number(process.env.PORT), '127.0.0.1');
