package correlation_test

import (
	"fmt"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

// guardDuty matches findings of Amazon GuardDuty by the prefixes of their types.
func guardDuty(types ...string) correlation.Matcher {
	return correlation.Matcher{Products: []string{"aws/guardduty"}, Types: types}
}

// control matches findings of a control of Security Hub, with or without consolidated control
// findings.
func control(id string) correlation.Matcher {
	return correlation.Matcher{
		Products:   []string{"aws/securityhub"},
		Generators: []string{"security-control/" + id, "aws-foundational-security-best-practices/v/1.0.0/" + id},
	}
}

// awsRules returns the three rules of AWS's sample aws-security-hub-correlation. The sample
// correlates by resource. Here each rule also names the types of its resources.
// https://github.com/aws-samples/aws-security-hub-correlation
func awsRules() []correlation.Rule {
	return []correlation.Rule{{
		Name:      "backdoor-and-critical-cves",
		Title:     "GuardDuty EC2 backdoor and critical CVEs",
		Severity:  defender.Critical,
		Resources: []string{"AwsEc2Instance"},
		Stages: []correlation.Stage{
			{Name: "a backdoor", Match: []correlation.Matcher{guardDuty("TTPs/Command and Control/Backdoor:EC2-", "Effects/Resource Consumption/Backdoor:EC2-")}},
			{Name: "critical CVEs", AtLeast: 3, Match: []correlation.Matcher{{
				Products: []string{"aws/inspector"}, Types: []string{"Software and Configuration Checks/Vulnerabilities/CVE"}, Severity: defender.Critical,
			}}},
		},
	}, {
		Name:      "exfiltration-of-sensitive-data",
		Title:     "S3 data exfiltration and sensitive data",
		Severity:  defender.Critical,
		Resources: []string{"AwsS3Bucket"},
		Stages: []correlation.Stage{
			{Name: "exfiltration", Match: []correlation.Matcher{guardDuty("TTPs/Exfiltration/Exfiltration:S3-", "Effects/Data Exfiltration/Exfiltration:S3-")}},
			{Name: "sensitive data", Match: []correlation.Matcher{{Products: []string{"aws/macie"}, Types: []string{"Sensitive Data Identifications/"}}}},
		},
	}, {
		Name:      "unusual-network-and-brute-force",
		Title:     "Unusual network use, brute force and a public instance",
		Severity:  defender.Critical,
		Resources: []string{"AwsEc2Instance", "AwsEc2SecurityGroup"},
		Stages: []correlation.Stage{
			{Name: "unusual network use", Match: []correlation.Matcher{guardDuty("Unusual Behaviors/VM/Behavior:EC2-NetworkPortUnusual", "Unusual Behaviors/VM/Behavior:EC2-TrafficVolumeUnusual")}},
			{Name: "brute force", Match: []correlation.Matcher{guardDuty("TTPs/Initial Access/UnauthorizedAccess:EC2-SSHBruteForce", "TTPs/Initial Access/UnauthorizedAccess:EC2-RDPBruteForce", "Effects/Impact:EC2-WinRMBruteForce")}},
			{Name: "a public address", Match: []correlation.Matcher{control("EC2.9")}},
			{Name: "open ports", Match: []correlation.Matcher{control("EC2.18")}},
		},
	}}
}

// The rules of AWS's sample, written with this package.
func Example_rulesOfAWS() {
	for _, r := range awsRules() {
		fmt.Println(r.Name, len(r.Stages), r.Validate())
	}
	// Output:
	// backdoor-and-critical-cves 2 <nil>
	// exfiltration-of-sensitive-data 2 <nil>
	// unusual-network-and-brute-force 4 <nil>
}
