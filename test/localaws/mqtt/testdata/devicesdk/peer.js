// A device that uses AWS's own SDK. It connects, subscribes to CLIENT/down,
// publishes to CLIENT/up, waits for one message and disconnects. What happened
// is printed as one line of JSON. Arguments: version (3 or 5), port, client id,
// files of certificate, key and root certificate.
'use strict';

const fs = require('node:fs');
const { once } = require('node:events');
const { iot, mqtt, mqtt5 } = require('aws-iot-device-sdk-v2');

const [version, port, clientId, cert, key, ca] = process.argv.slice(2);
const read = (file) => fs.readFileSync(file, 'utf8');
const text = (payload) => Buffer.from(payload).toString('utf8');

async function withMqtt5() {
  const builder = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromMemory('localhost', read(cert), read(key));
  builder.withCertificateAuthority(read(ca));
  builder.withPort(Number(port));
  builder.withConnectProperties({ clientId, keepAliveIntervalSeconds: 60 });
  const client = new mqtt5.Mqtt5Client(builder.build());
  const connected = once(client, 'connectionSuccess');
  const failed = once(client, 'connectionFailure');
  client.start();
  const [first] = await Promise.race([connected, failed]);
  if (!first.settings) {
    client.stop();
    return { connected: false, reasonCode: first.connack && first.connack.reasonCode };
  }
  const received = once(client, 'messageReceived');
  await client.subscribe({ subscriptions: [{ topicFilter: `${clientId}/down`, qos: mqtt5.QoS.AtLeastOnce }] });
  const ack = await client.publish({ topicName: `${clientId}/up`, qos: mqtt5.QoS.AtLeastOnce, payload: 'from the device' });
  const [{ message }] = await received;
  const stopped = once(client, 'stopped');
  client.stop({ reasonCode: mqtt5.DisconnectReasonCode.NormalDisconnection });
  await stopped;
  return { connected: true, reasonCode: ack.reasonCode, received: text(message.payload), maximumQos: first.settings.maximumQos };
}

async function withMqtt3() {
  const builder = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder(read(cert), read(key));
  builder.with_certificate_authority(read(ca));
  builder.with_endpoint('localhost');
  builder.with_port(Number(port));
  builder.with_client_id(clientId);
  builder.with_clean_session(true);
  const connection = new mqtt.MqttClient().new_connection(builder.build());
  try {
    await connection.connect();
  } catch (error) {
    return { connected: false, error: String(error) };
  }
  let deliver;
  const received = new Promise((resolve) => { deliver = resolve; });
  await connection.subscribe(`${clientId}/down`, mqtt.QoS.AtLeastOnce, (topic, payload) => deliver(text(payload)));
  await connection.publish(`${clientId}/up`, 'from the device', mqtt.QoS.AtLeastOnce);
  const message = await received;
  await connection.disconnect();
  return { connected: true, reasonCode: 0, received: message };
}

(version === '5' ? withMqtt5() : withMqtt3()).then(
  (result) => { console.log(JSON.stringify(result)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
