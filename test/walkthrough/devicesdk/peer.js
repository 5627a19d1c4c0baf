// A device that uses AWS's own SDK. It connects, subscribes to the topics of its configuration,
// publishes, waits for one message if it subscribed, and disconnects. What happened is
// printed as one line of JSON. Standard input is the JSON of the Go type Device.
'use strict';

const fs = require('node:fs');
const { once } = require('node:events');
const { iot, mqtt, mqtt5 } = require('aws-iot-device-sdk-v2');

const device = JSON.parse(fs.readFileSync(0, 'utf8'));
const text = (payload) => Buffer.from(payload).toString('utf8');

async function withMqtt5() {
  const builder = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromMemory(device.host, device.certificate, device.key);
  builder.withCertificateAuthority(device.rootCA);
  builder.withPort(device.port);
  builder.withConnectProperties({ clientId: device.clientId, keepAliveIntervalSeconds: 60 });
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
  if (device.subscribe) {
    await client.subscribe({ subscriptions: [{ topicFilter: device.subscribe, qos: mqtt5.QoS.AtLeastOnce }] });
  }
  const ack = await client.publish({ topicName: device.topic, qos: mqtt5.QoS.AtLeastOnce, payload: device.payload });
  const message = device.subscribe ? text((await received)[0].message.payload) : '';
  const stopped = once(client, 'stopped');
  client.stop({ reasonCode: mqtt5.DisconnectReasonCode.NormalDisconnection });
  await stopped;
  return { connected: true, reasonCode: ack.reasonCode, received: message, maximumQos: first.settings.maximumQos };
}

async function withMqtt3() {
  const builder = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder(device.certificate, device.key);
  builder.with_certificate_authority(device.rootCA);
  builder.with_endpoint(device.host);
  builder.with_port(device.port);
  builder.with_client_id(device.clientId);
  builder.with_clean_session(true);
  const connection = new mqtt.MqttClient().new_connection(builder.build());
  try {
    await connection.connect();
  } catch (error) {
    return { connected: false, error: String(error) };
  }
  let deliver;
  const received = new Promise((resolve) => { deliver = resolve; });
  if (device.subscribe) {
    await connection.subscribe(device.subscribe, mqtt.QoS.AtLeastOnce, (topic, payload) => deliver(text(payload)));
  }
  await connection.publish(device.topic, device.payload, mqtt.QoS.AtLeastOnce);
  const message = device.subscribe ? await received : '';
  await connection.disconnect();
  return { connected: true, reasonCode: 0, received: message };
}

(device.version === 5 ? withMqtt5() : withMqtt3()).then(
  (result) => { console.log(JSON.stringify(result)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
