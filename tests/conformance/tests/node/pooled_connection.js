// One kept connection: an upload that is rejected before its body is read, then a good delivery, again and again.
// Says how many of the good ones were answered 200.
// GOOD_TOKEN=… node pooled_connection.js PORT TRIES
const http = require('node:http');

const [port, tries] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function post(token, body) {
  return new Promise((resolve) => {
    const headers = { 'x-smartshape-token': token, 'content-length': Buffer.byteLength(body) };
    const request = http.request({ agent, host: '127.0.0.1', port, path: '/callback', method: 'POST', headers });
    request.on('error', () => resolve(0));
    request.on('response', (response) => {
      response.resume();
      response.on('error', () => resolve(0));
      response.on('end', () => resolve(response.statusCode));
    });
    request.end(body);
  });
}

(async () => {
  let [answered, sent] = [0, 0];
  for (const size of [100, 60000, 1000000]) {
    for (let number = 0; number < Number(tries); number += 1) {
      await post('letmein', 'x'.repeat(size));
      const event = { file: '5c6f', event: 'file_uploaded', data: {}, owner: 'o', runTimestamp: 1, uuid: String(sent) };
      answered += await post(process.env.GOOD_TOKEN, JSON.stringify(event)) === 200;
      sent += 1;
    }
  }
  console.log(`${answered} of ${sent}`);
  agent.destroy();
})();
