// Uploads with a bad token, and says how many of the tries got the whole answer.
// node rejected_upload.js PORT BYTES TRIES [chunked]
const http = require('node:http');

const [port, bytes, tries, framing] = process.argv.slice(2);
const body = Buffer.alloc(Number(bytes), 'x');

function upload() {
  return new Promise((resolve) => {
    const headers = { 'x-smartshape-token': 'letmein', 'content-type': 'application/json' };
    if (framing !== 'chunked') headers['content-length'] = body.length;
    const request = http.request({ host: '127.0.0.1', port, path: '/callback', method: 'POST', headers, agent: false });
    request.on('error', () => resolve(false));
    request.on('response', (response) => {
      let text = '';
      response.on('data', (part) => { text += part; });
      response.on('error', () => resolve(false));
      response.on('end', () => {
        resolve(response.statusCode === 401 && text === '{"success":false,"error":"unauthorized"}');
        request.destroy();
      });
    });
    if (framing === 'chunked') {
      for (let at = 0; at < body.length; at += 65536) request.write(body.subarray(at, at + 65536));
      request.end();
    } else {
      request.end(body);
    }
  });
}

(async () => {
  let answered = 0;
  for (let number = 0; number < Number(tries); number += 1) answered += await upload();
  console.log(answered);
})();
