// One HTTP exchange as a value: what was sent, what came back, how long it took. A server that is away is status 0.

export async function exchange(url, { method = "GET", body, type = "application/json", signal } = {}) {
  const headers = { accept: type, ...(body && { "content-type": type }) };
  const sent = body ? JSON.stringify(body) : "";
  const made = { url, method, headers, sent, sentBytes: new Blob([sent]).size, status: 0, received: {}, text: "", answer: null };
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body: sent || undefined, signal });
    made.text = await response.text();
    made.status = response.status;
    made.received = Object.fromEntries(response.headers);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    made.text = "The server could not be reached.";
  }
  made.ms = performance.now() - started;
  made.receivedBytes = new Blob([made.text]).size;
  try {
    made.answer = JSON.parse(made.text);
  } catch {
    made.answer = null;
  }
  return made;
}
