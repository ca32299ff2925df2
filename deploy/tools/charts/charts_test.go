package charts

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"sluice/deploy/tools/testkit"
)

const folder = "../../helm/sluice"

// serviceMonitor is what the chart uses of the Prometheus operator's kind.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// objects are the rendered manifests, decoded, by kind and name.
type objects map[string]any

// get returns an object.
func get[T any](t *testing.T, all objects, name string) *T {
	t.Helper()
	o, ok := all[name].(*T)
	if !ok {
		t.Fatalf("%s is not among %v", name, slices.Sorted(maps.Keys(all)))
	}
	return o
}

// kubernetes is the version that manifests are for.
func kubernetes(t *testing.T, version string) *chartutil.Capabilities {
	t.Helper()
	parsed, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	c := chartutil.DefaultCapabilities.Copy()
	c.KubeVersion = *parsed
	return c
}

// render does what "helm template" does, and decodes the manifests: a field that the kind does not
// have, or one of another type, is an error.
func render(t *testing.T, values string) (objects, error) {
	t.Helper()
	return renderFor(t, values, "v1.35.0")
}

// renderFor renders for a version of Kubernetes.
func renderFor(t *testing.T, values, version string) (objects, error) {
	t.Helper()
	chart, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	v, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(chart, v, chartutil.ReleaseOptions{Name: "edge", Namespace: "realtime", IsInstall: true}, kubernetes(t, version))
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	found := objects{}
	for name, text := range files {
		if strings.HasSuffix(name, ".txt") {
			found["notes"] = text
			continue
		}
		for part := range strings.SplitSeq("\n"+text, "\n---\n") {
			if strings.TrimSpace(part) == "" {
				continue
			}
			var head metav1.PartialObjectMetadata
			if err := yaml.Unmarshal([]byte(part), &head); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, part)
			}
			kinds := map[string]any{
				"v1/ConfigMap": &corev1.ConfigMap{}, "v1/Service": &corev1.Service{}, "apps/v1/Deployment": &appsv1.Deployment{},
				"apps/v1/StatefulSet": &appsv1.StatefulSet{}, "networking.k8s.io/v1/Ingress": &networkingv1.Ingress{},
				"policy/v1/PodDisruptionBudget": &policyv1.PodDisruptionBudget{}, "autoscaling/v2/HorizontalPodAutoscaler": &autoscalingv2.HorizontalPodAutoscaler{},
				"monitoring.coreos.com/v1/ServiceMonitor": &serviceMonitor{},
			}
			object := kinds[head.APIVersion+"/"+head.Kind]
			if object == nil {
				t.Fatalf("%s: unknown kind %s/%s", name, head.APIVersion, head.Kind)
			}
			if err := yaml.UnmarshalStrict([]byte(part), object); err != nil {
				t.Errorf("%s: %v\n%s", name, err, part)
			}
			found[head.Kind+"/"+head.Name] = object
		}
	}
	return found, nil
}

// valueSet returns one of the chart's three sets of values.
func valueSet(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "ci", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var valueSets = map[string]struct {
	objects []string
	grace   int64
}{
	"default": {[]string{"ConfigMap/edge", "Deployment/edge", "PodDisruptionBudget/edge", "Service/edge", "Service/edge-metrics"}, 10 + 60 + 5 + 10},
	"trial":   {[]string{"ConfigMap/edge", "Deployment/edge", "Service/edge", "Service/edge-metrics", "Service/edge-nats", "StatefulSet/edge-nats"}, 10 + 0 + 5 + 10},
	"production": {[]string{"ConfigMap/edge", "Deployment/edge", "HorizontalPodAutoscaler/edge", "Ingress/edge", "PodDisruptionBudget/edge", "Service/edge",
		"Service/edge-metrics", "ServiceMonitor/edge"}, 5 + 15 + 150 + 3 + 10},
}

func TestLint(t *testing.T) {
	for name := range valueSets {
		values, err := chartutil.ReadValues([]byte(valueSet(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.AllWithKubeVersion(folder, values, "realtime", &kubernetes(t, "v1.35.0").KubeVersion).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// Each set of values gives the objects that it asks for, and they fit together: selectors, ports,
// and the time that a pod has to stop.
func TestRendered(t *testing.T) {
	for name, want := range valueSets {
		t.Run(name, func(t *testing.T) {
			all, err := render(t, valueSet(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, append(slices.Clone(want.objects), "notes")) {
				t.Fatalf("objects: %q, want %q", got, want.objects)
			}
			d := get[appsv1.Deployment](t, all, "Deployment/edge")
			pod := d.Spec.Template
			if got := *pod.Spec.TerminationGracePeriodSeconds; got != want.grace {
				t.Errorf("a pod has %d seconds to stop, want %d", got, want.grace)
			}
			if hook := pod.Spec.Containers[0].Lifecycle; (hook != nil) != (name == "production") || hook != nil && hook.PreStop.Sleep.Seconds != 5 {
				t.Errorf("the hook before the stop is %v", hook)
			}
			matches := func(what string, selector map[string]string) {
				t.Helper()
				for k, v := range selector {
					if pod.Labels[k] != v {
						t.Errorf("%s selects %s=%s, the pod has %v", what, k, v, pod.Labels)
					}
				}
				if len(selector) == 0 {
					t.Errorf("%s selects nothing", what)
				}
			}
			matches("the deployment", d.Spec.Selector.MatchLabels)
			c := pod.Spec.Containers[0]
			ports := map[string]bool{}
			for _, p := range c.Ports {
				ports[p.Name] = true
			}
			for _, name := range []string{"Service/edge", "Service/edge-metrics"} {
				s := get[corev1.Service](t, all, name)
				matches(name, s.Spec.Selector)
				for _, p := range s.Spec.Ports {
					if !ports[p.TargetPort.StrVal] {
						t.Errorf("%s has the port %v, the pod has %v", name, p.TargetPort, ports)
					}
				}
			}
			if b, ok := all["PodDisruptionBudget/edge"].(*policyv1.PodDisruptionBudget); ok {
				matches("the disruption budget", b.Spec.Selector.MatchLabels)
			}
			for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
				if probe == nil {
					t.Error("a probe is missing")
				}
			}
			if !*pod.Spec.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem {
				t.Error("the container may run as root, or write to its file system")
			}
		})
	}
}

// The gateway accepts the files that the chart writes, without a warning.
func TestConfigIsChecked(t *testing.T) {
	program := os.Getenv("SLUICE")
	if program == "" {
		program = "../../../bin/sluice"
	}
	for name := range valueSets {
		all, err := render(t, valueSet(t, name))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		if err := os.WriteFile(file, []byte(get[corev1.ConfigMap](t, all, "ConfigMap/edge").Data["sluice.yaml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "check", "--config", file)
		for _, e := range get[appsv1.Deployment](t, all, "Deployment/edge").Spec.Template.Spec.Containers[0].Env {
			if e.Value != "" {
				cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
			}
		}
		var messages bytes.Buffer
		cmd.Stderr = &messages
		if _, err := cmd.Output(); err != nil || messages.Len() > 0 {
			t.Errorf("%s: %v\n%s", name, err, &messages)
		}
	}
}

// The URL of NATS comes from the place that the values name.
func TestNATSURL(t *testing.T) {
	for _, tt := range []struct{ values, url, secret string }{
		{"", "nats://nats:4222", ""},
		{"nats: {url: 'nats://a:4222,nats://b:4222'}", "nats://a:4222,nats://b:4222", ""},
		{"nats: {enabled: true}", "nats://edge-nats:4222", ""},
		{"natsUrlSecret: {name: s}", "", "s"},
	} {
		all, err := render(t, tt.values)
		if err != nil {
			t.Fatal(err)
		}
		e := get[appsv1.Deployment](t, all, "Deployment/edge").Spec.Template.Spec.Containers[0].Env[0]
		secret := ""
		if e.ValueFrom != nil {
			secret = e.ValueFrom.SecretKeyRef.Name
		}
		if e.Name != "SLUICE_NATS_URL" || e.Value != tt.url || secret != tt.secret {
			t.Errorf("%s: %v", tt.values, e)
		}
	}
}

// A hook that sleeps is refused where Kubernetes does not know it, and nothing else is.
func TestOlderKubernetes(t *testing.T) {
	if _, err := renderFor(t, "preStopSeconds: 5", "v1.29.0"); err == nil || !strings.Contains(err.Error(), "preStopSeconds needs Kubernetes 1.30") {
		t.Error(err)
	}
	if _, err := renderFor(t, "", "v1.27.0"); err != nil {
		t.Error(err)
	}
}

// Wrong values are refused with the reason.
func TestWrongValues(t *testing.T) {
	for values, want := range map[string]string{
		"replica: 3":                      "replica",
		"replicas: 0":                     "replicas",
		"service: {type: Balancer}":       "service",
		"config: {port: 80}":              "config.port is set by the chart",
		"config: {drainTimeout: a while}": `"a while" is not a duration`,
		"nats: {url: ''}":                 "nats.url must name a NATS server",
		"preStopSeconds: -1":              "preStopSeconds",
	} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", values, err, want)
		}
	}
}

// The probes of the chart are answered by a gateway with the same settings, and the notes name the
// port. With hideHealth the port for clients answers none.
func TestProbesAreAnswered(t *testing.T) {
	for values, args := range map[string][]string{"config: {}": nil, "config: {hideHealth: true}": {"--hide-health"}} {
		all, err := render(t, "nats: {enabled: true}\n"+values)
		if err != nil {
			t.Fatal(err)
		}
		clients, metrics := testkit.Gateway(t, args...)
		at := map[string]string{"http": clients, "metrics": metrics}
		c := get[appsv1.Deployment](t, all, "Deployment/edge").Spec.Template.Spec.Containers[0]
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
			resp, err := http.Get("http://" + at[p.HTTPGet.Port.String()] + p.HTTPGet.Path)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s on %s: %d", values, p.HTTPGet.Path, p.HTTPGet.Port.String(), resp.StatusCode)
			}
		}
		want := "8080/readyz"
		if args != nil {
			want = "9100/readyz"
		}
		if notes := all["notes"].(string); !strings.Contains(notes, "localhost:"+want) {
			t.Errorf("%s: the notes have no %s:\n%s", values, want, notes)
		}
	}
}

// With hideHealth the probes are on the metrics port.
func TestProbesFollowHideHealth(t *testing.T) {
	for values, want := range map[string]string{"config: {}": "http", "config: {hideHealth: false}": "http", "config: {hideHealth: true}": "metrics"} {
		all, err := render(t, "nats: {enabled: true}\n"+values)
		if err != nil {
			t.Fatal(err)
		}
		c := get[appsv1.Deployment](t, all, "Deployment/edge").Spec.Template.Spec.Containers[0]
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
			if got := p.HTTPGet.Port.String(); got != want {
				t.Errorf("%s: %s is asked on port %s, want %s", values, p.HTTPGet.Path, got, want)
			}
		}
	}
}
