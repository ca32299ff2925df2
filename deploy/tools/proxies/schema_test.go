package proxies

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	elb "github.com/awslabs/goformation/v7/cloudformation/elasticloadbalancingv2"
	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3" // the kinds that envoy.yaml names
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// content returns a configuration as JSON, and checks that it has what no proxy may lack: a check
// of /readyz, both gateways, and nothing that lets a client choose its address.
func content(t *testing.T, name string, want ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../proxies", name))
	if err != nil {
		t.Fatal(err)
	}
	form, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !bytes.Contains(form, []byte(w)) {
			t.Errorf("%s is missing", w)
		}
	}
	return form
}

// valid decodes what Envoy is started with, as Envoy does it: unknown fields and values out of
// bounds are errors, also in the messages that are packed into it.
func valid(text []byte) error {
	var b bootstrap.Bootstrap
	if err := protojson.Unmarshal(text, &b); err != nil {
		return err
	}
	if err := b.ValidateAll(); err != nil {
		return err
	}
	return protorange.Range(b.ProtoReflect(), func(p protopath.Values) error {
		m, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		packed, ok := m.Interface().(*anypb.Any)
		if !ok {
			return nil
		}
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		if v, ok := inner.(interface{ ValidateAll() error }); ok {
			return v.ValidateAll()
		}
		return nil
	})
}

// Envoy is not packaged for Debian: its own types check the file.
func TestEnvoyConfiguration(t *testing.T) {
	text := content(t, "envoy.yaml", `"path":"/readyz"`, `"address":"10.0.0.11"`, `"address":"10.0.0.12"`, `"use_remote_address":true`,
		`"request_headers_to_remove":["forwarded"]`, `"upgrade_type":"websocket"`)
	if err := valid(text); err != nil {
		t.Error(err)
	}
	for old, by := range map[string]string{
		`"path":"/readyz"`:        `"paths":"/readyz"`,                  // an unknown field
		`"interval":"1s"`:         `"interval":"1 second"`,              // of another type
		`"timeout":"2s"`:          `"timeout":"0s"`,                     // out of bounds
		`v3.Router"`:              `v3.Router","start_child_spans":"x"`, // in a packed message
		`"stat_prefix":"clients"`: `"stat_prefix":""`,
	} {
		wrong := bytes.Replace(text, []byte(old), []byte(by), 1)
		if bytes.Equal(wrong, text) {
			t.Errorf("the file has no %s", old)
		} else if valid(wrong) == nil {
			t.Errorf("%s is accepted", by)
		}
	}
}

// An AWS template is decoded with the types of CloudFormation's resources, which refuse properties
// that a resource does not have; and all that it refers to is there.
func TestAWSTemplate(t *testing.T) {
	text := content(t, "aws.yaml", `"HealthCheckPath":"/readyz"`, `{"Key":"proxy_protocol_v2.enabled","Value":"true"}`,
		`{"Key":"routing.http.xff_header_processing.mode","Value":"append"}`)
	var template struct {
		AWSTemplateFormatVersion, Description string
		Parameters                            map[string]struct {
			Type, Default, Description string
			AllowedValues              []string
		}
		Conditions map[string]any
		Resources  map[string]struct {
			Type, Condition string
			Properties      map[string]any
		}
		Outputs map[string]struct{ Value any }
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&template); err != nil {
		t.Fatal(err)
	}
	condition := func(name string) {
		t.Helper()
		if _, ok := template.Conditions[name]; !ok && name != "" {
			t.Errorf("there is no condition %s", name)
		}
	}
	// resolve puts a value in the place of what CloudFormation computes.
	var resolve func(v any) any
	resolve = func(v any) any {
		switch v := v.(type) {
		case []any:
			for i := range v {
				v[i] = resolve(v[i])
			}
		case map[string]any:
			if name, ok := v["Ref"].(string); ok {
				p, isParameter := template.Parameters[name]
				if _, isResource := template.Resources[name]; !isParameter && !isResource {
					t.Errorf("there is neither a parameter nor a resource %s", name)
				}
				if strings.HasPrefix(p.Type, "List<") {
					return []any{"a", "b"}
				}
				return "a"
			}
			if of, ok := v["Fn::GetAtt"].([]any); ok {
				if _, isResource := template.Resources[of[0].(string)]; !isResource {
					t.Errorf("there is no resource %v", of)
				}
				return "a"
			}
			if of, ok := v["Fn::If"].([]any); ok {
				condition(of[0].(string))
				resolve(of[2])
				return resolve(of[1])
			}
			for k := range v {
				if strings.HasPrefix(k, "Fn::") {
					t.Errorf("%s is not known to this test", k)
				}
				v[k] = resolve(v[k])
			}
		}
		return v
	}
	kinds := map[string]func() json.Unmarshaler{
		"AWS::ElasticLoadBalancingV2::LoadBalancer": func() json.Unmarshaler { return new(elb.LoadBalancer) },
		"AWS::ElasticLoadBalancingV2::TargetGroup":  func() json.Unmarshaler { return new(elb.TargetGroup) },
		"AWS::ElasticLoadBalancingV2::Listener":     func() json.Unmarshaler { return new(elb.Listener) },
	}
	decode := func(kind string, properties map[string]any) error {
		whole, err := json.Marshal(map[string]any{"Type": kind, "Properties": properties})
		if err != nil {
			return err
		}
		return kinds[kind]().UnmarshalJSON(whole)
	}
	for name, r := range template.Resources {
		if kinds[r.Type] == nil {
			t.Errorf("%s: the kind %s is not known to this test", name, r.Type)
			continue
		}
		condition(r.Condition)
		properties := resolve(r.Properties).(map[string]any)
		if err := decode(r.Type, properties); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		properties["Unknown"] = true
		if decode(r.Type, properties) == nil {
			t.Errorf("%s: a property that is not there is accepted", name)
		}
		// Both kinds of load balancer have times that a gateway must know.
		if strings.HasSuffix(r.Type, "TargetGroup") && !slices.ContainsFunc(properties["TargetGroupAttributes"].([]any), func(a any) bool {
			return a.(map[string]any)["Key"] == "deregistration_delay.timeout_seconds"
		}) {
			t.Errorf("%s: clients get no time to leave", name)
		}
	}
	for _, o := range template.Outputs {
		resolve(o.Value)
	}
}
